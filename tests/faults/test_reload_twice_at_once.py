"""Two SIGHUPs, one right after the other."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until

SLOW_TO_IMPORT = """
    if VERSION == "new":
        ledger().incr("imports")
        wait_for("go")
    def handle(message):
        started(message)
        ledger().hset("versions", message.id, VERSION)
        finished(message)
    """


def test_the_second_one_begins_the_trial_anew(make_pool: Callable[..., Pool]) -> None:
    """The newest code is tried and taken; the pool is whole afterwards."""
    pool = make_pool(f"    VERSION = 'old'\n{SLOW_TO_IMPORT}", "--workers", "2")
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_finished(ids)
    pool.write(f"    VERSION = 'new'\n{SLOW_TO_IMPORT}")
    pool.signal(signal.SIGHUP)
    until(lambda: pool.books.get("imports"), "a trial")
    pool.signal(signal.SIGHUP)
    pool.wait_log("asked for again: trying the newest code")
    until(lambda: pool.books.get("imports") == b"2", "another trial")
    pool.release("go")
    pool.wait_log("reloaded: every slot runs the new code")
    assert pool.log().count("trying the new code") == 1
    more = pool.push(numbers(10))
    pool.wait_finished(more)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([*ids, *more])
    assert {pool.books.hget("versions", entry) for entry in more} == {b"new"}
    assert pool.restarts() == {"RELOAD": 2, "CLEAN": 2}
