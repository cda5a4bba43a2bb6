"""A handler that ignores, resets or blocks the signals of its worker."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

CHANGES = {
    "ignored": "for number in NUMBERS: signal.signal(number, signal.SIG_IGN)",
    "default": "for number in NUMBERS: signal.signal(number, signal.SIG_DFL)",
    "blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
}


@pytest.mark.parametrize("change", CHANGES)
def test_drain_works_all_the_same(make_pool: Callable[..., Pool], change: str) -> None:
    """In the middle of a large batch that suddenly goes slowly: what runs is finished, the rest handed back.

    Nothing is charged, and the second run, with a handler that changes nothing, handles it.
    """
    pool = make_pool(
        f"""
        NUMBERS = (signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE)
        def handle(message):
            started(message)
            if message.data["n"] == 5:
                {CHANGES[change]}
            if message.data["n"] >= 1000:
                time.sleep(0.01)
            finished(message)
        """,
        "--batch-ms", "100", "--soft-timeout", "5",
    )  # fmt: skip
    ids = pool.push(numbers(2000))
    pool.start()
    pool.wait_started(ids[1010])
    assert len(pool.batch().ids) > 100, "a small batch"
    before = len(pool.finished())
    assert pool.stop() == 0
    assert len(pool.finished()) - before < 100, "the whole batch was handled first"
    assert "died" not in pool.log()
    assert pool.counters()["FAILED"] == 0
    pool.write("def handle(message):\n    started(message)\n    finished(message)\n")
    assert pool.run() == 0
    pool.assert_exact(ids)
