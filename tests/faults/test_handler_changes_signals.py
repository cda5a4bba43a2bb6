"""A handler that ignores, resets or blocks the signals of its worker."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

CHANGES = {
    "ignored": "for number in NUMBERS: signal.signal(number, signal.SIG_IGN)",
    "default": "for number in NUMBERS: signal.signal(number, signal.SIG_DFL)",
    "blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
}


@pytest.mark.parametrize("change", CHANGES)
def test_drain_works_all_the_same(make_pool: Callable[..., Pool], change: str) -> None:
    """In the middle of a full stream: what runs is finished, the rest handed back, nothing charged."""
    pool = make_pool(
        f"""
        NUMBERS = (signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE)
        def handle(message):
            started(message)
            if message.data["n"] == 5:
                {CHANGES[change]}
            finished(message)
        """,
        "--batch-ms",
        "20",
        "--soft-timeout",
        "5",
    )
    ids = pool.push(numbers(10_000))
    pool.start()
    until(lambda: len(pool.finished()) > 300, "a worker in full swing")
    assert pool.stop() == 0
    done = len(pool.finished())
    assert done < len(ids), "the drain came after the last entry"
    assert "died" not in pool.log()
    assert pool.counters()["FAILED"] == 0
    pool.write("def handle(message):\n    started(message)\n    finished(message)\n")
    assert pool.run() == 0
    pool.assert_exact(ids)
