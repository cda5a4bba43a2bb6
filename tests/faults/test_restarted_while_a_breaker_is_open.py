"""A pool is stopped, or killed as a whole, while a circuit breaker is open; the next one finds it open."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

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


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_it_stays_open(make_pool: Callable[..., Pool], how: str) -> None:
    pool = make_pool(HANDLER, "--workers", "2", "--max-attempts", "500", "--lease", "3")
    pool.books.set("down", 1)
    mails = pool.push(numbers(100), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open")
    until(lambda: pool.counters()["DEFERRED"] >= 90, "deferred entries")
    if how == "stopped":
        assert pool.stop() == 0
    else:
        workers = pool.holders()
        pool.kill_master()
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not pool.holders(), "no worker")
    started = pool.started()
    pool.start()
    until(lambda: pool.counters()["DEFERRED"] >= 180, "the same entries, deferred again")
    assert sum(pool.started().values()) - sum(started.values()) <= 1, "more than a probe was started"
    pool.books.delete("down")
    pool.wait_finished(mails)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(mails, restarted={entry: n for entry, n in pool.started().items() if n > 1})
