"""The server of a pool hands over while a circuit breaker is open: the keeper's second connection follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import numbers, until
from support_topology import Cluster, Everywhere

from rsq import Fleet

pytestmark = pytest.mark.every_server

ROUTER = """
    from rsq import Breaker, Router
    handle = Router()
    @handle.on("mail", breaker=Breaker(failures=3, window="1m", reset="300ms"))
    def depend(message):
        started(message)
        if ledger().exists("down"):
            raise ConnectionError("down")
        finished(message)
    @handle.default
    def other(message):
        started(message)
        finished(message)
    """


def test_it_closes_and_opens_as_before(cluster: Cluster, make_everywhere: Callable[..., Everywhere]) -> None:
    """The old master answers MOVED, on a connection that nothing else ever breaks."""
    pool = make_everywhere(cluster, ROUTER, "--workers", "2", "--max-attempts", "50", "--block-ms", "200")
    pool.books.set("down", 1)
    mails = pool.push(numbers(20), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open")
    cluster.hand_over()
    others = pool.push(numbers(20))
    pool.wait_finished(others)
    pool.wait_log("another node of the cluster owns this key now")
    pool.books.delete("down")
    pool.wait_finished(mails)
    pool.wait_log("circuit breaker of mail is closed: probes went well")
    cluster.hand_over()
    pool.wait_finished(pool.push(numbers(20)))
    with Fleet(cluster.url, "events", "workers") as fleet:
        assert fleet.breakers.open("mail")
        until(lambda: pool.log().count("circuit breaker of mail is open by hand") == 1, "the operator's word")
        assert fleet.breakers.close("mail")
    pool.wait_finished(pool.push(numbers(5), "mail"))
    assert pool.stop() == 0
