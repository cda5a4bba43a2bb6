"""SIGTERM in the middle of a reload."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psutil
import pytest
from support_pool import Pool, numbers, until

HANDLER = """
    if VERSION == "new":
        ledger().incr("imports")
        if ledger().get("imports") == b"1" and {in_trial}:
            wait_for("never")
    def worker_start():
        ledger().incr(f"starts {VERSION}")
        if VERSION == "new":
            wait_for("never")
    def handle(message):
        started(message)
        finished(message)
    """


@pytest.mark.parametrize("when", ["trial", "roll"])
def test_the_pool_drains_and_ends(make_pool: Callable[..., Pool], when: str) -> None:
    """While new code is being tried, or while one slot boots with it and the other still has the old."""
    source = HANDLER.replace("{in_trial}", str(when == "trial"))
    pool = make_pool(f"    VERSION = 'old'\n{source}", "--workers", "2", "--drain-timeout", "0.2")
    ids = pool.push(numbers(20))
    pool.start()
    pool.wait_finished(ids)
    pool.wait_settled()
    # A worker that is late to count what it has acknowledged would be killed so soon after the signal.
    until(lambda: pool.counters()["HANDLED"] == len(ids), "all counted")
    pool.write(f"    VERSION = 'new'\n{source}")
    pool.signal(signal.SIGHUP)
    until(lambda: pool.books.get("imports" if when == "trial" else "starts new"), "the middle of a reload")
    family = psutil.Process(pool.pid).children(recursive=True)
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 0
    until(lambda: not any(process.is_running() for process in family), "the end of all processes")
    pool.assert_exact(ids)
