"""The master that owns the stream hands over to its replica, by CLUSTER FAILOVER, under load."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import until
from support_topology import Cluster, Everywhere, Load, Node, ask, identity

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """


def test_nothing_is_lost_or_run_twice(cluster: Cluster, make_everywhere: Callable[..., Everywhere]) -> None:
    """The master waits until the replica has everything: unlike a crash, this undoes nothing."""
    pool = make_everywhere(cluster, HANDLER, "--workers", "2", "--block-ms", "200")
    first, second = cluster.owner(), cluster.replica
    assert second is not None
    with Load(cluster.url) as load:
        pool.start()
        load.wait_more(100)
        for old, new in ((first, second), (second, first)):
            until(lambda old=old: b"slave" not in ask(old, "ROLE")[0], "a master")  # type: ignore[misc]
            until(lambda new=new: b"connected" in ask(new, "ROLE"), "a replica in step")  # type: ignore[misc]
            until(lambda old=old, new=new: all_know(cluster, old, new), "old news")  # type: ignore[misc]
            order(cluster, new)
            load.wait_more(100)
    assert not load.errors, f"a push that was certainly not executed is sent again: {load.errors}"
    pool.wait_finished(load.ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(load.ids)


def all_know(cluster: Cluster, master: Node, replica: Node) -> bool:
    """Tell whether every node takes one for the replica of the other: else it gives it no vote, or no ear."""
    wanted = [identity(replica), identity(master)]
    views = [ask(node, "CLUSTER", "NODES").decode().splitlines() for node in cluster.nodes]
    return all(any([row.split()[0], row.split()[3]] == wanted for row in view) for view in views)


def order(cluster: Cluster, new: Node) -> None:
    """Order a failover and see it through: nodes that are not quick enough give it up after 5 s."""
    for last in (False, False, True):
        assert ask(new, "CLUSTER", "FAILOVER") == b"OK"
        try:
            until(lambda: cluster.owner() is new, "the failover", 10)
        except AssertionError:
            if last:
                raise
        else:
            return
