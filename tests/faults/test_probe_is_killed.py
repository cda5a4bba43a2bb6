"""The process that runs the probe of a circuit breaker is killed: that is how the probe ends, no more."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until

HANDLER = """
    from rsq import Breaker, Router
    handle = Router()
    @handle.on("mail", breaker=Breaker(failures=2, window="1m", reset="200ms"))
    def mail(message):
        started(message)
        if ledger().exists("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        if ledger().exists("hold"):
            ledger().hset("probes", message.id, os.getpid())
            wait_for("go")
        if ledger().exists("down"):
            raise ConnectionError("down")
        finished(message)
    """


def test_by_itself(make_pool: Callable[..., Pool]) -> None:
    """Deaths open it as exceptions do, and a probe that dies has failed; all others stay deferred."""
    pool = make_pool(HANDLER, "--workers", "2", "--max-attempts", "50")
    pool.books.set("die", 1)
    mails = pool.push(numbers(40), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open: 2 failures within 60 s")
    pool.wait_log("circuit breaker of mail is open: a probe has failed", times=2)
    assert len(pool.started()) < 30, "all of them were started"
    pool.books.delete("die")
    pool.wait_finished(mails)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(mails, restarted={entry: n for entry, n in pool.started().items() if n > 1})
    assert pool.restarts()["CRASH"] == sum(pool.started().values()) - len(mails)


def test_by_somebody(make_pool: Callable[..., Pool]) -> None:
    """The next probe runs as soon as its successor has said what has happened."""
    pool = make_pool(HANDLER, "--workers", "2", "--max-attempts", "50")
    pool.books.set("down", 1)
    mails = pool.push(numbers(40), "mail")
    pool.start()
    until(lambda: pool.counters()["DEFERRED"] >= 30, "deferred entries")
    pool.wait_open("mail")  # entries are deferred also before it is known what a breaker does
    # What was started before the breaker opened may still run: it would be taken for a probe.
    until(
        lambda: pool.counters()["FAILED"] == sum(pool.started().values()), "the end of all that was started"
    )
    pool.books.set("hold", 1)
    probes = until(lambda: pool.books.hgetall("probes"), "a probe")
    until(lambda: sum(map(pool.is_running_handler, (0, 1))) == 1, "a probe that is alone")
    pid, *others = probes.values()
    assert not others
    slot = next(slot for slot in (0, 1) if pool.worker(slot) == int(pid))
    pool.books.delete("hold")
    words = "circuit breaker of mail is open: a probe has failed"
    failed = pool.log().count(words)
    pool.kill_worker(slot)
    pool.wait_successor(int(pid), slot)
    pool.wait_log(words, times=failed + 1)
    pool.books.delete("down")
    pool.wait_finished(mails)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(mails, restarted={entry: n for entry, n in pool.started().items() if n > 1})
