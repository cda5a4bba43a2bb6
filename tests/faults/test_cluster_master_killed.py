"""The master that owns the stream is killed; its replica takes over."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import numbers, until
from support_topology import Cluster, Everywhere, Load

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """


def test_what_was_replicated_is_handled_once_and_the_rest_goes_on(
    cluster: Cluster, make_everywhere: Callable[..., Everywhere]
) -> None:
    """Replication is asynchronous: what the master confirmed in its last moments may be undone.

    So entries around the kill may be handled twice (their acknowledgement was lost) or vanish (their push
    was). Everything that the replica had confirmed before, and everything after, is handled exactly once.
    """
    pool = make_everywhere(cluster, HANDLER, "--workers", "2", "--block-ms", "200")
    early = pool.push(numbers(200))
    pool.start()
    pool.wait_finished(early)
    pool.wait_settled()
    assert pool.redis.wait(1, 10_000) == 1
    victim = cluster.owner()
    assert cluster.replica is not None
    with Load(cluster.url) as load:
        load.wait_more(100)
        cluster.hurry()
        victim.kill()
        until(lambda: cluster.owner() is cluster.replica, "a failover")
        load.wait_more(100)
    pool.wait_settled()
    late = pool.push(numbers(200))
    pool.wait_finished(late)
    pool.wait_settled()
    assert pool.stop() == 0

    counts = pool.started()
    assert all(counts[entry] == 1 for entry in [*early, *late])
    assert pool.entries() <= counts.keys(), "an entry that the new master has was not handled"
    around = counts.keys() - {*early, *late}
    assert all(counts[entry] <= 2 for entry in around), "one failover undoes one acknowledgement"
    assert pool.finished().keys() == counts.keys()
    assert (pool.dead(), pool.pending(), pool.unread()) == ({}, 0, 0)
