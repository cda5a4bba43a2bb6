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


def test_while_the_handlers_module_is_imported(make_pool: Callable[..., Pool]) -> None:
    """It must not be an exception: one that is raised in a callback, as imports have them, is lost."""
    pool = make_pool("""
        import weakref
        class Thing:
            pass
        def callback(_):
            ledger().set("imports", 1)
            time.sleep(0.01)
        while True:
            thing = Thing()
            reference = weakref.ref(thing, callback)
            del thing
        """)
    pool.start(ready=False)
    until(lambda: pool.books.get("imports"), "its import")
    assert pool.stop() == 0
    assert not pool.runtime.exists() or not list(pool.runtime.glob("*.seg"))
