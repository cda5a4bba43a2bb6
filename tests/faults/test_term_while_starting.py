"""SIGTERM before a pool's workers have booted."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_it_ends_with_exit_code_0(make_pool: Callable[..., Pool]) -> None:
    """Nothing was read; a start after that does the work."""
    pool = make_pool(
        """
        def worker_start():
            ledger().incr("starts")
            wait_for("go")
        def handle(message):
            started(message)
            finished(message)
        """,
        "--workers", "2", "--drain-timeout", "0.2",
    )  # fmt: skip
    ids = pool.push(numbers(5))
    pool.start(ready=False)
    until(lambda: int(pool.books.get("starts") or 0) == 2, "two processes")
    pool.signal(signal.SIGTERM)
    assert pool.wait() == 0
    assert pool.redis.xinfo_groups("events") == []
    pool.release("go")
    assert pool.run() == 0
    pool.assert_exact(ids)
