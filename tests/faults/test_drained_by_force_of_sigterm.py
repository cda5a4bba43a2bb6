"""SIGTERM ends the process of a handler that has just reset it, in the middle of a drain."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_entry_is_not_charged_for_our_signal(make_pool: Callable[..., Pool]) -> None:
    """The handler is cut off by the pool itself: the entry is run again with its attempts as they were."""
    pool = make_pool("""
        def handle(message):
            started(message)
            if message.data["n"] == 5 and not ledger().incr("first") > 1:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                ledger().set("reset", 1)
                wait_for("never")
            assert message.attempt == 1
            finished(message)
        """)
    ids = pool.push(numbers(10))
    pool.start()
    until(lambda: pool.books.exists("reset"), "the handler's change")
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 0
    assert pool.run() == 0
    pool.assert_exact(ids, restarted={ids[5]: 2})
    assert pool.counters()["FAILED"] == 0
