"""Hooks for the begin and the end of a worker's process, and a process that crashes between them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

HOOKS = {
    "by name": """
        def worker_start(): ledger().rpush("starts", os.getpid())
        def worker_stop(): ledger().rpush("stops", os.getpid())
        """,
    "by decorator": """
        @worker_start
        def connect(): ledger().rpush("starts", os.getpid())
        @worker_stop
        def disconnect(): ledger().rpush("stops", os.getpid())
        """,
    "async": """
        @worker_start
        async def connect(): ledger().rpush("starts", os.getpid())
        @worker_stop
        async def disconnect(): ledger().rpush("stops", os.getpid())
        """,
}


@pytest.mark.parametrize("kind", HOOKS)
def test_once_per_process(make_pool: Callable[..., Pool], kind: str) -> None:
    """Every process runs the first before it reads; the second runs at an orderly end, not at a crash."""
    pool = make_pool(
        f"""{HOOKS[kind]}
        def handle(message):
            assert int(ledger().lindex("starts", -1)) == os.getpid()
            started(message)
            if message.data["n"] == 5 and message.attempt == 1:
                segfault()
            finished(message)
        """
    )
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_finished(ids)
    last = pool.worker()
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted={ids[5]: 2})
    starts = [int(pid) for pid in pool.books.lrange("starts", 0, -1)]
    stops = [int(pid) for pid in pool.books.lrange("stops", 0, -1)]
    assert (len(starts), starts[-1], stops) == (2, last, [last])
