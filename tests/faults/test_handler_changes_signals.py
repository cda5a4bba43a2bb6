"""A handler that ignores, resets or blocks the signals of its worker."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

from rsq.ipc.cells import PoolState

CHANGES = {
    "ignored": "for number in NUMBERS: signal.signal(number, signal.SIG_IGN)",
    "default": "for number in NUMBERS: signal.signal(number, signal.SIG_DFL)",
    "blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
}

PLACES = range(1010, 1900, 40)  # entries that wait: one of them has many behind it in its batch


@pytest.mark.parametrize("change", CHANGES)
def test_drain_works_all_the_same(make_pool: Callable[..., Pool], change: str) -> None:
    """In the middle of a large batch that suddenly goes slowly: what runs is finished, the rest handed back.

    Nothing is charged, and the second run, with a handler that changes nothing, handles it.
    """
    pool = make_pool(
        f"""
        NUMBERS = (signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE)
        pause = 0.0
        def handle(message):
            global pause
            started(message)
            if message.data["n"] == 5:
                {CHANGES[change]}
            if message.data["n"] in {PLACES}:
                wait_for(f"go-{{message.data['n']}}")
                pause = float(ledger().get("pause") or 0)
            time.sleep(pause)
            finished(message)
        """,
        "--batch-ms", "1000", "--soft-timeout", "60",
    )  # fmt: skip
    ids = pool.push(numbers(2000))
    pool.start()
    for place in PLACES:
        pool.wait_started(ids[place])
        batch = pool.batch().ids
        if batch.index(ids[place].encode()) + 100 < len(batch):
            break
        pool.release(f"go-{place}")
    else:
        raise AssertionError("no large batch")
    before = len(pool.finished())
    pool.books.set("pause", 0.05)
    pool.signal(signal.SIGTERM)
    pool.wait_state(PoolState.STOPPING)  # the worker is told
    pool.release(f"go-{place}")
    assert pool.wait() == 0
    assert len(pool.finished()) - before < 100, "the whole batch was handled first"
    assert "died" not in pool.log()
    assert pool.counters()["FAILED"] == 0
    pool.write("def handle(message):\n    started(message)\n    finished(message)\n")
    assert pool.run() == 0
    pool.assert_exact(ids)
