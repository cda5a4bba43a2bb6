"""The keeper is killed while a circuit breaker is open: its successor goes on with what it knew."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until

HANDLER = """
    from rsq import Breaker, Router
    handle = Router()
    @handle.on("mail", breaker=Breaker(failures=3, window="1m", reset=RESET))
    def mail(message):
        started(message)
        if ledger().exists("hold"):
            ledger().set("probe", message.id)
            wait_for("go")
        if ledger().exists("down"):
            raise ConnectionError("down")
        finished(message)
    """


def kill_keeper(pool: Pool) -> None:
    """Kill it, and wait for a beat of its successor."""
    before, beat = pool.keeper(), pool.keep("UNTIL")
    os.kill(before, signal.SIGKILL)
    until(lambda: pool.keeper() != before and pool.keep("UNTIL") > beat, "another keeper")


def test_again_and_again(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(HANDLER.replace("RESET", "'200ms'"), "--workers", "2", "--max-attempts", "500")
    pool.books.set("down", 1)
    mails = pool.push(numbers(50), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open")
    for _ in range(3):
        kill_keeper(pool)
        pool.wait_log("a probe has failed", times=pool.log().count("a probe has failed") + 1)
    pool.books.delete("down")
    pool.wait_finished(mails)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(mails, restarted={entry: n for entry, n in pool.started().items() if n > 1})


def test_while_a_probe_runs(make_pool: Callable[..., Pool]) -> None:
    """The probe goes on alone, and its end closes the breaker."""
    pool = make_pool(HANDLER.replace("RESET", "'200ms'"), "--workers", "2", "--max-attempts", "500")
    pool.books.set("down", 1)
    mails = pool.push(numbers(50), "mail")
    pool.start()
    until(lambda: pool.counters()["DEFERRED"] >= 40, "deferred entries")
    pool.wait_open("mail")  # entries are deferred also before it is known what a breaker does
    # What was started before the breaker opened may still run: it would be taken for a probe.
    until(
        lambda: pool.counters()["FAILED"] == sum(pool.started().values()), "the end of all that was started"
    )
    pool.books.set("hold", 1)
    until(lambda: pool.books.exists("probe"), "a probe")
    before = sum(pool.started().values())
    kill_keeper(pool)
    pool.books.delete("down")
    pool.books.delete("hold")
    assert sum(pool.started().values()) == before, "another probe was started"
    pool.release("go")
    pool.wait_log("circuit breaker of mail is closed: probes went well")
    pool.wait_finished(mails)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(mails, restarted={entry: n for entry, n in pool.started().items() if n > 1})
