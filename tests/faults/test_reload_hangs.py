"""SIGHUP with new code whose import never ends."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until
from support_servers import is_gone

GOOD = """
    def handle(message):
        started(message)
        finished(message)
    """
HANGS = f"""
    import subprocess
    ledger().sadd("trials", os.getpid(), subprocess.Popen(["sleep", "600"]).pid)
    wait_for("never")
    {GOOD}
    """


def _trials(pool: Pool) -> set[int]:
    return {int(pid) for pid in pool.books.smembers("trials")}


def _wait_gone(pool: Pool) -> None:
    until(lambda: all(is_gone(pid) for pid in _trials(pool)), "the end of all trials")


def test_it_has_a_limit_and_can_be_asked_for_again(make_pool: Callable[..., Pool]) -> None:
    """The old code goes on; a request with good code is not kept waiting; nothing of a trial is left."""
    pool = make_pool(GOOD, "--reload-timeout", "2")
    ids = pool.push(numbers(5))
    pool.start()
    pool.wait_finished(ids)
    pool.write(HANGS)
    pool.signal(signal.SIGHUP)
    pool.wait_log("reload refused, the old code goes on: it took longer than 2 s (--reload-timeout)")
    _wait_gone(pool)
    pool.options += ["--reload-timeout", "600"]
    assert pool.stop() == 0
    pool.write(GOOD)
    pool.start()
    pool.write(HANGS)
    seen = len(_trials(pool))
    pool.signal(signal.SIGHUP)
    until(lambda: len(_trials(pool)) > seen, "a trial")
    pool.write(GOOD)
    pool.signal(signal.SIGHUP)
    pool.wait_log("reloaded: every slot runs the new code")
    _wait_gone(pool)
    ids += pool.push(numbers(5))
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_it_ends_with_its_master(make_pool: Callable[..., Pool]) -> None:
    """Whether that is killed or told to end; so does what it has started."""
    pool = make_pool(GOOD, "--reload-timeout", "600")
    for how in (signal.SIGKILL, signal.SIGTERM):
        pool.write(GOOD)
        pool.start()
        pool.write(HANGS)
        seen = len(_trials(pool))
        pool.signal(signal.SIGHUP)
        until(lambda seen=seen: len(_trials(pool)) > seen, "a trial")  # type: ignore[misc]
        pool.signal(how)
        assert pool.wait() == (0 if how == signal.SIGTERM else -signal.SIGKILL)
        _wait_gone(pool)
