"""The probe of a circuit breaker hangs, or its host is lost: it is not waited for for ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until

HANDLER = """
    from rsq import Breaker, Router
    handle = Router()
    @handle.on("mail", timeout=TIMEOUT, breaker=Breaker(failures=2, window="1m", reset="200ms"))
    def mail(message):
        started(message)
        if ledger().exists("hang"):
            ledger().rpush("hung", message.id)
            time.sleep(600)
        if ledger().exists("down"):
            raise ConnectionError("down")
        finished(message)
    """


def test_until_its_time_limit(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(HANDLER.replace("TIMEOUT", "3"), "--workers", "2", "--max-attempts", "50")
    pool.books.set("down", 1)
    mails = pool.push(numbers(50), "mail")
    pool.start()
    until(lambda: pool.counters()["DEFERRED"] >= 20, "deferred entries")
    pool.wait_open("mail")  # entries are deferred also before it is known what a breaker does
    # What was started before the breaker opened may still run: it would hang, and be no probe.
    until(
        lambda: pool.counters()["FAILED"] == sum(pool.started().values()), "the end of all that was started"
    )
    pool.books.set("hang", 1)
    until(lambda: pool.books.llen("hung") >= 2, "two of them that hang")
    assert pool.log().count("a probe has failed") >= 1
    pool.books.delete("hang", "down")
    pool.wait_finished(mails)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(mails, restarted={entry: n for entry, n in pool.started().items() if n > 1})


def test_until_its_host_is_taken_for_lost(make_pool: Callable[..., Pool]) -> None:
    """The other pool tries an entry of its own; what the lost one held is taken over, one of it charged."""
    options = ("--workers", "1", "--max-attempts", "50", "--lease", "3", "--batch-max", "20")
    source = HANDLER.replace("TIMEOUT", "0")
    one = make_pool(source, *options)
    other = make_pool(source, *options, "--instance", "other")
    one.books.set("down", 1)
    mails = one.push(numbers(20), "mail")
    one.start()
    until(lambda: one.counters()["DEFERRED"] >= 10, "deferred entries")
    one.wait_open("mail")
    until(lambda: one.counters()["FAILED"] == sum(one.started().values()), "the end of all that was started")
    one.books.set("hang", 1)
    until(lambda: one.books.llen("hung"), "a probe that hangs")
    other.start()
    more = one.push(numbers(20), "mail")
    until(lambda: other.counters()["DEFERRED"], "deferred entries")
    one.books.delete("hang", "down")
    assert not one.finished(), "another entry was tried meanwhile"
    for pid in (one.pid, one.keeper(), *one.holders()):
        os.kill(pid, signal.SIGKILL)
    # The lease, the lead, and the patience with a probe have to run out first.
    until(lambda: one.finished().keys() == {*mails, *more}, "the end of all entries", 90)
    one.wait_settled()
    assert other.stop() == 0
    assert one.finished() == dict.fromkeys([*mails, *more], 1)
    assert not other.dead()
