"""SIGHUP while a handler runs for long."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until

OLD = """
    def handle(message):
        started(message)
        if message.data["n"] == 0:
            wait_for("go")
        finished(message)
    """
NEW = """
    def handle(message):
        started(message)
        ledger().incr("new")
        finished(message)
    """


def test_it_is_waited_for(make_pool: Callable[..., Pool]) -> None:
    """Other slots work on meanwhile; the handler ends well; then its slot gets the new code too."""
    pool = make_pool(OLD, "--workers", "2", "--batch-max", "1", "--drain-timeout", "0.1")
    ids = pool.push(numbers(1))
    pool.start()
    pool.wait_started(ids[0])
    (busy,) = [slot for slot in range(2) if pool.is_running_handler(slot)]
    holder = pool.worker(busy)
    pool.write(NEW)
    pool.signal(signal.SIGHUP)
    pool.wait_log("starting again in the same process")
    ids += pool.push(numbers(20)[1:])
    pool.wait_finished(ids[1:])
    assert pool.worker(busy) == holder
    assert "reloaded: " not in pool.log()
    pool.release("go")
    pool.wait_log("reloaded: every slot runs the new code")
    ids += pool.push(numbers(20))
    pool.wait_finished(ids)
    pool.wait_settled()
    # A worker that is late to count what it has acknowledged would be killed so soon after the stop.
    until(lambda: pool.counters()["HANDLED"] == len(ids), "all counted")
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert int(pool.books.get("new") or 0) >= 20
    assert pool.restarts()["RELOAD"] == 2
