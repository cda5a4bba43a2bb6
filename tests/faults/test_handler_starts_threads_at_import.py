"""A handler's module that starts threads when it is imported."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers

HANDLER = """
    import threading
    threading.Thread(target=time.sleep, args=(1000,), name="metrics-sender").start()
    def handle(message):
        started(message)
        finished(message)
    """


def test_no_fork_with_threads(make_pool: Callable[..., Pool]) -> None:
    """They are named, exit code 78 comes at once; with --no-preload each worker has threads of its own."""
    pool = make_pool(HANDLER)
    ids = pool.push(numbers(3))
    code, output = pool.say("app:handle")
    assert code == 78
    (line,) = output.splitlines()
    assert "importing the handler started threads (metrics-sender)" in line
    assert "--no-preload" in line
    assert pool.redis.xinfo_groups("events") == []
    assert pool.run("--no-preload") == 0
    pool.assert_exact(ids)
