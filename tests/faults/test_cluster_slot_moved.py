"""The slot of the stream moves to another master of the cluster, and back, while messages come and go."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import until
from support_topology import Cluster, Everywhere, Load

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] == 7:
            raise Reject("seven")
        finished(message)
    """


@pytest.mark.parametrize("options", [(), ("--once", "1h")])
def test_nothing_is_lost_or_run_twice(
    cluster: Cluster, make_everywhere: Callable[..., Everywhere], options: tuple[str, ...]
) -> None:
    """The move takes the pending list along: no entry is even delivered twice; no push is doubled."""
    pool = make_everywhere(cluster, HANDLER, "--workers", "2", "--block-ms", "200", *options)
    with Load(cluster.url) as load:
        pool.start()
        load.wait_more(100)
        before = cluster.owner()
        others = [node for node in cluster.masters if node is not before]
        for target in (others[0], before, others[1]):
            until(lambda: pool.is_connected(0) and pool.is_connected(1), "both workers connected")
            reconnects = pool.counters()["RECONNECTS"]
            cluster.move("events", target)
            until(lambda more=reconnects: pool.counters()["RECONNECTS"] > more, "a new connection")  # type: ignore[misc]
            load.wait_more(100)
        assert cluster.owner() is others[1]
    assert not load.errors, f"a push that was certainly not executed is sent again: {load.errors}"
    seven = load.ids[7]
    pool.wait_finished([entry for entry in load.ids if entry != seven])
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(load.ids, dead={seven: 1})
    assert pool.redis.xlen("events") == len(load.ids)
