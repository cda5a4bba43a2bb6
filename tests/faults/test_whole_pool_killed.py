"""kill -9 of the master and all workers at once, as by the end of a container."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_pool import Pool, numbers


def test_only_running_entries_are_charged(make_pool: Callable[..., Pool]) -> None:
    """Nobody saw the deaths; the new pool reads in shared memory which entries were running."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] >= 400:
                wait_for("go")
            ledger().hset("attempts", message.id, message.attempt)
            finished(message)
        """,
        "--workers", "4", "--batch-max", "20", "--batch-ms", "1000", "--max-attempts", "2",
    )  # fmt: skip
    ids = pool.push(numbers(600))
    pool.start()
    pool.wait_finished(ids[:400])
    pool.wait_count(started=404)
    running = pool.started().keys() - ids[:400]
    workers = pool.holders()
    os.killpg(pool.pid, signal.SIGKILL)
    pool.wait()
    pool.wait_free()
    pool.release("go")
    pool.start()
    assert not set(workers) & set(pool.holders())
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    assert len(running) == 4
    pool.assert_exact(ids, restarted=dict.fromkeys(running, 2))
    attempts = {entry.decode(): int(count) for entry, count in pool.books.hgetall("attempts").items()}  # type: ignore[union-attr]
    assert attempts == dict.fromkeys(ids, 1) | dict.fromkeys(running, 2)
    assert (pool.counters()["FAILED"], pool.counters()["RETRIED"]) == (4, 4)
