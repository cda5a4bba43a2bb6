"""The end of a worker hangs: a hook, a thread, a task that will not be cancelled, an exit function."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

from rsq.supervisor.reading import snapshot

HANGS = {
    "worker_stop hook": """
        def worker_stop(): wait_for("never")
        def handle(message):
        """,
    "async worker_stop hook": """
        import asyncio
        async def worker_stop(): await asyncio.sleep(10**6)
        def handle(message):
        """,
    "thread of asyncio.to_thread": """
        import asyncio
        async def handle(message):
            asyncio.ensure_future(asyncio.to_thread(wait_for, "never"))
            await asyncio.sleep(0.01)
        """,
    "task that swallows its cancellation": """
        import asyncio
        tasks = set()
        async def stubborn():
            while True:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    pass
        async def handle(message):
            tasks.add(asyncio.create_task(stubborn()))
            await asyncio.sleep(0.01)
        """,
    "thread that is no daemon": """
        import threading
        def handle(message):
            threading.Thread(target=wait_for, args=("never",)).start()
        """,
    "exit function": """
        import atexit
        def handle(message):
            atexit.register(wait_for, "never")
        """,
}


@pytest.mark.parametrize("what", HANGS)
def test_its_slot_goes_on_after_a_limit(make_pool: Callable[..., Pool], what: str) -> None:
    """The log says what hangs, it is counted, nothing is charged, and the next process works."""
    code = HANGS[what].rstrip() + "\n            started(message); finished(message)\n"
    pool = make_pool(code, "--max-messages", "1", "--batch-max", "1", "--end-timeout", "1")
    pool.start()
    first = pool.worker()  # before it has anything to do: its end comes soon
    ids = pool.push(numbers(1))
    pool.wait_finished(ids)
    pool.wait_successor(first)
    phase = "its worker_stop hook has not ended" if "hook" in what else "its process does not end"
    pool.wait_log(f"slot 0: {phase}")
    ids += pool.push(numbers(1))
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert pool.restarts()["STUCK"] >= 1
    assert "CRASH" not in pool.restarts()


def test_it_is_seen_while_it_hangs(make_pool: Callable[..., Pool]) -> None:
    """In the status of the slot: what it is that takes so long."""
    pool = make_pool(
        """
        def worker_stop(): wait_for("go")
        def handle(message): started(message); finished(message)
        """,
        "--max-messages", "1", "--batch-max", "1",
    )  # fmt: skip
    ids = pool.push(numbers(1))
    pool.start()
    until(lambda: phase(pool) == "worker_stop", "a slot that is in its worker_stop hook")
    pool.release("go")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def phase(pool: Pool) -> str:
    """Return what slot 0 is at that is no handler."""
    segment = pool.segment()
    try:
        return snapshot(segment).slots[0].phase
    finally:
        segment.close()
