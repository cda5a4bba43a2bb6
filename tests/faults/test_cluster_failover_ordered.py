"""The master that owns the stream hands over to its replica, by CLUSTER FAILOVER, under load."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_topology import Cluster, Everywhere, Load

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """


def test_nothing_is_lost_or_run_twice(cluster: Cluster, make_everywhere: Callable[..., Everywhere]) -> None:
    """The master waits until the replica has everything: unlike a crash, this undoes nothing."""
    pool = make_everywhere(cluster, HANDLER, "--workers", "2", "--block-ms", "200")
    with Load(cluster.url) as load:
        pool.start()
        load.wait_more(100)
        for _ in range(2):
            cluster.hand_over()
            load.wait_more(100)
    assert not load.errors, f"a push that was certainly not executed is sent again: {load.errors}"
    pool.wait_finished(load.ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(load.ids)
