"""The server has no memory left in which to remember that a message was handled."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, until

HANDLER = """
    def handle(message):
        started(message)
        wait_for("go")
        finished(message)
    """


def test_nothing_is_acknowledged_without_its_mark(make_own_pool: Callable[..., Pool]) -> None:
    """The entry stays pending, over a crash too, and is not run again; when there is room both happen."""
    pool = make_own_pool(HANDLER, "--once", "1h", "--block-ms", "100", "--lease", "600")
    entry = pool.add({b"data": b"{}", b"key": b"k"})
    pool.start()
    pool.wait_started(entry)
    pool.redis.config_set("maxmemory", 1)
    pool.release("go")
    pool.wait_finished([entry])
    pool.wait_log("the server is out of memory: raise its maxmemory or make room")
    pool.kill_worker()
    pool.wait_log("the server is out of memory: raise its maxmemory or make room", times=2)
    assert pool.pending() == 1
    pool.redis.config_set("maxmemory", 0)
    pool.wait_settled()
    copy = pool.add({b"data": b"{}", b"key": b"k"})
    until(lambda: pool.counters()["DUPLICATES"] == 1, "the copy")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([entry, copy], duplicates=[copy])
