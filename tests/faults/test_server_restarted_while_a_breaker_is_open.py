"""Redis is restarted while a circuit breaker is open: it is open still, and defers what it did."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until
from support_servers import Server

from rsq import Fleet

pytestmark = pytest.mark.every_server

HANDLER = """
    from rsq import Breaker, Router
    handle = Router()
    @handle.on("mail", breaker=Breaker(failures=3, window="1m", reset="1h"))
    def mail(message):
        started(message)
        if ledger().exists("down"):
            raise ConnectionError("down")
        finished(message)
    @handle.default
    def other(message):
        started(message)
        finished(message)
    """


def test_it_stays_open(own_server: Server, make_own_pool: Callable[..., Pool]) -> None:
    pool = make_own_pool(HANDLER, "--workers", "2", "--max-attempts", "50", "--lease", "6")
    pool.books.set("down", 1)
    mails = pool.push(numbers(100), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open")
    until(lambda: pool.deferred() == 100, "deferred entries")  # also those that had failed before
    others = pool.push(numbers(10))
    pool.wait_finished(others)
    begun = pool.started()
    own_server.kill()
    pool.wait_log("trying again")
    own_server.start()
    more = pool.push(numbers(10))
    pool.wait_finished(more)
    assert pool.started() == {**begun, **dict.fromkeys(more, 1)}, "a deferred entry was started"
    pool.books.delete("down")
    with Fleet(own_server.url, "events", "workers") as fleet:
        assert [(one.state, one.opened) for one in fleet.breakers.all()] == [("open", 1)]
        fleet.breakers.close("mail")
    pool.wait_finished(mails)
    pool.wait_settled()
    assert pool.stop() == 0
    failed = {entry: count for entry, count in pool.started().items() if count > 1}
    pool.assert_exact([*mails, *others, *more], restarted=failed)
