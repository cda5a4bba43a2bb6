"""The primary behind sentinels changes: by order, and because it was killed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis
from support_pool import numbers, until
from support_topology import SERVICE, Everywhere, Load, Node, Watched, ask

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """


@pytest.mark.parametrize("way", ["ordered", "killed"])
def test_the_pool_follows_the_primary(
    watched: Watched, make_everywhere: Callable[..., Everywhere], way: str
) -> None:
    """Replication is asynchronous, and sentinels wait for no replica even if the failover is ordered.

    So entries around it may be handled twice (their acknowledgement was lost) or vanish (their push was).
    Everything that the replica had confirmed before, and everything after, is handled exactly once.
    """
    pool = make_everywhere(watched, HANDLER, "--workers", "2", "--block-ms", "200")
    early = pool.push(numbers(200))
    pool.start()
    pool.wait_finished(early)
    pool.wait_settled()
    pool.redis.set("mark", 1)  # WAIT is for what its own connection has written, and all before that
    assert pool.redis.wait(1, 10_000) == 1
    assert watched.primary() is watched.first
    with Load(watched.url) as load:
        load.wait_more(100)
        if way == "killed":
            watched.hurry()
            watched.first.kill()
        else:
            until(lambda: order(watched), "a sentinel that obeys")
        until(lambda: watched.primary() is watched.second, "a failover", 60)
        load.wait_more(100)
    if way == "ordered":
        until(lambda: demoted(watched.first), "the old primary as a replica")
    pool.wait_settled()
    late = pool.push(numbers(200))
    pool.wait_finished(late)
    pool.wait_settled()
    assert pool.stop() == 0

    counts = pool.started()
    assert all(counts[entry] == 1 for entry in [*early, *late])
    assert pool.entries() <= counts.keys(), "an entry that the new primary has was not handled"
    around = counts.keys() - {*early, *late}
    assert all(counts[entry] <= 2 for entry in around), "one failover undoes one acknowledgement"
    assert pool.finished().keys() == counts.keys()
    assert (pool.dead(), pool.pending(), pool.unread()) == ({}, 0, 0)


def demoted(server: Node) -> bool:
    """Tell whether it is a replica; in the act, the sentinels close all its connections."""
    try:
        return bool(ask(server, "ROLE")[0] == b"slave")
    except redis.ConnectionError:
        return False


def order(watched: Watched) -> bool:
    """Order a failover; a sentinel that has no news of the replica yet refuses."""
    try:
        return bool(ask(watched.sentinels[0], "SENTINEL", "FAILOVER", SERVICE) == b"OK")
    except redis.ResponseError as error:
        if "NOGOODSLAVE" in str(error):
            return False
        raise
