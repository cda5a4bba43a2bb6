"""A handler that takes all memory there is, to the last byte, so that even its worker has none."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_only_the_greedy_entry_is_charged(make_pool: Callable[..., Pool]) -> None:
    """Two entries: one takes every byte, one is aborted by a C library that gets none."""
    pool = make_pool("""
        import resource
        def limit():
            in_use = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (in_use + (32 << 20), resource.RLIM_INFINITY))
        def handle(message):
            started(message)
            if message.data["n"] == 10:
                limit()
                hoard, size = [], 1 << 24
                while size > 64:
                    try:
                        hoard.append(bytearray(size))
                    except MemoryError:
                        size >>= 1
                hoard.append(bytearray(1 << 24))
            if message.data["n"] == 20:
                limit()
                malloc = ctypes.CDLL(None).malloc
                malloc.restype, malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
                if not malloc(1 << 30):
                    os.abort()
            finished(message)
        """)
    ids = pool.push(numbers(30))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[10]: 3, ids[20]: 3})
    letters = pool.dead()
    assert (letters[ids[20]].reason, letters[ids[20]].attempts) == ("crash: SIGABRT", 3)
    # Whether the worker can still write the failure down is up to the allocator; what is charged is not.
    assert letters[ids[10]].reason in ("max_attempts", "crash: exit 70")
    assert letters[ids[10]].attempts == 3
    assert pool.counters()["FAILED"] == 6
