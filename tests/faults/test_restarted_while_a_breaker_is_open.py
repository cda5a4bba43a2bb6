"""A pool is stopped, or killed as a whole, while a circuit breaker is open; the next one finds it open."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until
from support_servers import stand_still

from rsq import Fleet

HANDLER = """
    from rsq import Breaker, Router
    handle = Router()
    @handle.on("mail", breaker=Breaker(failures=3, window="1h", reset="4s"))
    def mail(message):
        started(message)
        if ledger().exists("down"):
            raise ConnectionError("down")
        finished(message)
    """


def opened(pool: Pool) -> int:
    """Return how often the breaker has opened: each probe that failed has opened it once more."""
    with Fleet(pool.server.url, "events", "workers") as fleet:
        (breaker,) = fleet.breakers.all()
        return breaker.opened


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_it_stays_open(make_pool: Callable[..., Pool], how: str) -> None:
    pool = make_pool(HANDLER, "--workers", "2", "--max-attempts", "500", "--lease", "3")
    pool.books.set("down", 1)
    mails = pool.push(numbers(100), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open")
    until(lambda: pool.deferred() >= 99, "deferred entries, all but one that may be tried")
    if how == "stopped":
        assert pool.stop() == 0
    else:
        stand_still(pool.pid)
        workers = pool.holders()
        stand_still(*workers)  # else they end in good order when their master does
        pool.kill_master()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not pool.holders(), "no worker")
    before, started = opened(pool), pool.started()
    pool.start()
    pool.wait_log("circuit breaker of mail is open")
    until(lambda: pool.deferred() >= 99, "the same entries, deferred again")
    probes = sum(pool.started().values()) - sum(started.values())
    assert probes <= 1 + opened(pool) - before, "more than a probe was started"
    pool.books.delete("down")
    pool.wait_finished(mails)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(mails, restarted={entry: n for entry, n in pool.started().items() if n > 1})
