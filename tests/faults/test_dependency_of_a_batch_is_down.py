"""What a batch handler depends on is down: a call that raises is one failure; one entry is tried, alone."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until

from rsq import Fleet

ROUTER = """
    from rsq import Breaker, Router
    handle = Router()
    @handle.batch("mail", "post", size=10, wait=0.02, breaker=Breaker(3, "1m", "200ms"))
    def mails(messages):
        for message in messages:
            started(message)
        ledger().hincrby("calls", len(messages))
        if ledger().exists("DOWN".lower()):
            FAIL
        for message in messages:
            finished(message)
        return messages
    """


def run(make_pool: Callable[..., Pool], fail: str) -> Pool:
    pool = make_pool(ROUTER.replace("FAIL", fail), "--max-attempts", "500", "--batch-max", "10")
    pool.books.set("down", 1)
    first = pool.push(numbers(10), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open: 3 failures within 60 s")
    pool.wait_open("mail")
    mails = pool.push(numbers(1000), "mail")
    pool.wait_log("circuit breaker of mail is open: a probe has failed", times=2)
    posts = pool.push(numbers(20), "post")
    until(lambda: pool.counters()["DEFERRED"] >= 500, "deferred entries")
    starts = pool.started()
    with Fleet(pool.server.url, "events", "workers") as fleet:
        (breaker,) = (one for one in fleet.breakers.all() if one.event == "mail")
    assert sum(starts.get(entry, 0) for entry in mails) <= breaker.opened, "more were started than probes"
    mails += first
    pool.books.delete("down")
    pool.wait_finished([*mails, *posts])
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([*mails, *posts], restarted={entry: n for entry, n in pool.started().items() if n > 1})
    assert pool.hash("calls").get("1", 0) >= 3, "entries were not tried alone"
    return pool


def test_by_an_exception(make_pool: Callable[..., Pool]) -> None:
    run(make_pool, 'raise ConnectionError("down")')


def test_by_death(make_pool: Callable[..., Pool]) -> None:
    run(make_pool, "os.kill(os.getpid(), signal.SIGKILL)")


def test_one_entry_that_kills(make_pool: Callable[..., Pool]) -> None:
    """The breaker opens with each death; suspects wait, and still run alone until the culprit is known."""
    pool = make_pool(
        """
    from rsq import Breaker, Router
    handle = Router()
    @handle.batch("mail", size=20, wait=0.1, breaker=Breaker(1, "1m", "100ms"))
    def mails(messages):
        for message in messages:
            started(message)
        if any(message.data["n"] == 7 for message in messages):
            os.kill(os.getpid(), signal.SIGKILL)
        for message in messages:
            finished(message)
        return messages
    """,
        "--max-attempts", "3",
    )  # fmt: skip
    mails = pool.push(numbers(40), "mail")
    pool.start()
    until(pool.dead, "a dead letter")
    pool.wait_settled()
    assert pool.stop() == 0
    poison = mails[7]
    assert pool.finished() == dict.fromkeys((entry for entry in mails if entry != poison), 1)
    assert pool.dead()[poison].attempts == 3
    assert pool.started()[poison] <= 2 * 3, "what waited for the breaker was not run alone"
    pool.assert_books(mails, dead=[poison])
    assert "circuit breaker of mail is open" in pool.log()
