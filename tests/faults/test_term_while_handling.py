"""SIGTERM while handlers run and further entries of their batches wait behind them."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers

from rsq.ipc.cells import PoolState


def test_running_ones_finish_and_the_rest_is_handed_back(make_pool: Callable[..., Pool]) -> None:
    """Exit code 0; delivery counters say how many attempts were really started; a restart does the rest."""
    pool = make_pool(
        """
        def handle(message):
            assert message.attempt == 1
            started(message)
            if message.data["n"] >= 200:
                wait_for("go")
            finished(message)
        """,
        "--workers", "2", "--batch-max", "20", "--batch-ms", "1000", "--max-attempts", "1",
    )  # fmt: skip
    ids = pool.push(numbers(300))
    pool.start()
    pool.wait_count(started=202)
    running = pool.started().keys() - ids[:200]
    pool.signal(signal.SIGTERM)
    pool.wait_state(PoolState.STOPPING)
    pool.release("go")
    assert pool.wait() == 0
    assert pool.finished().keys() == {*ids[:200], *running}
    counts = pool.delivery_counts("test:0") | pool.delivery_counts("test:1")
    assert counts
    assert set(counts.values()) == {0}
    assert pool.run() == 0
    assert "WARNING" not in pool.log(), "a restart in good order is no trouble"
    pool.assert_exact(ids)
