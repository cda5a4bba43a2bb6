"""A handler that runs longer than the soft limit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

HANDLERS = {
    "def": """
        from rsq import SoftTimeout
        def handle(message):
            started(message)
            try:
                while message.data["n"] in (5, 8):
                    time.sleep(0.001)
            except SoftTimeout:
                ledger().incr("caught")
                if message.data["n"] == 5:
                    raise
            finished(message)
        """,
    "async def": """
        import asyncio
        from rsq import SoftTimeout
        async def handle(message):
            started(message)
            if message.data["n"] == 5:
                await asyncio.sleep(1000)
            if message.data["n"] == 8:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    ledger().incr("caught")
                    raise
            finished(message)
        """,
}


@pytest.mark.parametrize("kind", HANDLERS)
def test_soft_timeout_is_raised_inside(make_pool: Callable[..., Pool], kind: str) -> None:
    """It can be caught there; uncaught, it is a failure like any other, in a process that goes on."""
    pool = make_pool(HANDLERS[kind], "--soft-timeout", "1.5", "--max-attempts", "2")
    ids = pool.push(numbers(20))
    pool.start()
    worker = pool.worker()
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    dead = {ids[5]: 2} if kind == "def" else {ids[5]: 2, ids[8]: 2}
    pool.assert_exact(ids, dead=dead)
    assert all(letter.error == "SoftTimeout: ran longer than 1.5 s" for letter in pool.dead().values())
    assert all("in handle" in letter.traceback for letter in pool.dead().values())
    assert int(pool.books.get("caught") or 0) == (3 if kind == "def" else 2)
