"""A handler that runs into its memory limit, and Python can still say so."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_memory_error_is_a_failure_like_any_other(make_pool: Callable[..., Pool]) -> None:
    """The process lives on, the entry is tried again and dead-lettered, its neighbours are handled."""
    pool = make_pool("""
        import resource
        def handle(message):
            started(message)
            if message.data["n"] == 10:
                in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (in_use + (64 << 20), resource.RLIM_INFINITY))
                bytearray(1 << 30)
            finished(message)
        """)
    ids = pool.push(numbers(30))
    pool.start()
    worker = pool.worker()
    pool.wait_finished(entry for entry in ids if entry != ids[10])
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids, dead={ids[10]: 3})
    letter = pool.dead()[ids[10]]
    assert (letter.reason, letter.attempts, letter.error) == ("max_attempts", 3, "MemoryError")
