"""The hook for the begin of a worker fails: always, or for a while."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_a_pool_that_never_boots_gives_up(make_pool: Callable[..., Pool]) -> None:
    """Exit code 70, the reason in the log, nothing read: the service manager sees a failure, not a loop."""
    pool = make_pool(
        """
        def worker_start():
            raise OSError("no database here")
        def handle(message):
            started(message)
        """,
        "--workers", "2",
    )  # fmt: skip
    pool.push(numbers(3))
    assert pool.start(ready=False).wait() == 70
    assert "OSError: no database here" in pool.log()
    assert "no slot could boot" in pool.log()
    assert pool.started() == {}
    assert pool.redis.xinfo_groups("events") == []


def test_a_hook_that_fails_for_a_while(make_pool: Callable[..., Pool]) -> None:
    """One slot boots and works; the other one's hook fails twice and then does not."""
    pool = make_pool(
        """
        def worker_start():
            if ledger().incr("boots") in (2, 3):
                raise OSError("no database yet")
        def handle(message):
            started(message)
            finished(message)
        """,
        "--workers", "2",
    )  # fmt: skip
    ids = pool.push(numbers(20))
    pool.start()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.log().count("OSError: no database yet") == 2
    assert pool.stop() == 0
    pool.assert_exact(ids)
