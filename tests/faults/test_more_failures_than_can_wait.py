"""A closed slot leaves more entries than may wait in one slot, and each of them fails with a long delay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support_pool import Pool, numbers, until

from rsq.ipc.cells import DeskState
from rsq.ipc.journal import WAITING_MAX
from rsq.streams.marks import RESTING_MS


def test_the_worker_waits_instead_of_dying(make_pool: Callable[..., Pool]) -> None:
    """It starts no more of them than can wait; the others keep their attempts."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            raise Retry(delay=3600)
        """,
        "--log-level", "error",
    )  # fmt: skip
    ids = pool.push(numbers(WAITING_MAX + 1000))
    pool.redis.xgroup_create("events", "workers", "0")
    pool.redis.xreadgroup("workers", "test:1", {"events": ">"}, len(ids))
    rest: Any = {"idle": RESTING_MS, "retrycount": 0, "justid": True}
    pool.redis.xclaim("events", "workers", "test:1", 0, ids, **rest)  # type: ignore[arg-type]
    pool.start(ready=False)
    until(lambda: len(pool.started()) > WAITING_MAX // 2, "failures")
    worker = pool.worker()
    until(lambda: pool.desk_state() is DeskState.IDLE, "a pause")
    assert pool.worker() == worker
    assert pool.stop() == 0
    assert pool.log() == ""
    started = pool.started()
    assert len(started) <= WAITING_MAX
    assert pool.delivery_counts() == dict.fromkeys(ids, 0) | dict.fromkeys(started, 1)
    assert pool.counters()["RETRIED"] == len(started)
