"""An async handler that closes every file descriptor, and with them those of the event loop."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_only_the_culprit_fails(make_pool: Callable[..., Pool]) -> None:
    """No handler behind it in its batch could run any more: none is tried before a new process is there."""
    pool = make_pool("""
        import asyncio
        async def handle(message):
            started(message)
            await asyncio.sleep(0)
            if message.data["n"] == 5 and message.attempt == 1:
                os.closerange(3, 4096)
                return
            finished(message)
        """)
    ids = pool.push(numbers(40))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, restarted={ids[5]: 2})
    assert (pool.counters()["FAILED"], pool.counters()["RETRIED"]) == (1, 1)
