"""While a circuit breaker is open the pool reads nothing new, or gives the event's entries up, if told so."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until

from rsq import Fleet

ROUTER = """
    from rsq import Breaker, Router
    handle = Router()
    def depend(message):
        started(message)
        if ledger().exists("down"):
            raise ConnectionError("down")
        finished(message)
    @handle.on("other")
    def other(message):
        started(message)
        finished(message)
    """


def test_the_pool_is_paused(make_pool: Callable[..., Pool]) -> None:
    """The stream keeps what comes, of all events; what was read before is finished or waits."""
    pool = make_pool(
        ROUTER
        + """
    handle.on("mail", breaker=Breaker(3, "1m", "300ms", while_open="pause"))(depend)
    """,
        "--workers", "2", "--max-attempts", "500", "--batch-max", "10",
    )  # fmt: skip
    pool.books.set("down", 1)
    mails = pool.push(numbers(10), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open")
    pool.wait_log("a probe has failed")
    pool.wait_open("mail")
    mails += pool.push(numbers(100), "mail")
    others = pool.push(numbers(50), "other")
    pool.wait_log("a probe has failed", times=4)
    unread = pool.unread()
    with Fleet(pool.server.url, "events", "workers") as fleet:
        (breaker,) = fleet.breakers.all()
    # A slot that had nothing to try may have read on, one by one, to find something: one mail for each
    # probe. And each may have had a read at the server when the pool was paused.
    assert unread >= max(50, 150 - 2 * 10 - 2 * breaker.opened)
    pool.books.delete("down")
    pool.wait_finished([*mails, *others])
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([*mails, *others], restarted={entry: n for entry, n in pool.started().items() if n > 1})


def test_a_paused_pool_that_has_nothing_to_try_reads_on(make_pool: Callable[..., Pool]) -> None:
    """All that failed is dead: the next of its event is read as a probe."""
    pool = make_pool(
        ROUTER
        + """
    handle.on("mail", max_attempts=1, breaker=Breaker(2, "1m", "300ms", while_open="pause"))(depend)
    """,
        "--batch-max", "2",
    )  # fmt: skip
    pool.books.set("down", 1)
    dead = pool.push(numbers(2), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open")
    pool.books.delete("down")
    others, mails = pool.push(numbers(5), "other"), pool.push(numbers(30), "mail")
    pool.wait_finished([*others, *mails])
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([*dead, *mails, *others], dead=dict.fromkeys(dead, 1))


def test_entries_are_given_up(make_pool: Callable[..., Pool]) -> None:
    """To the dead letters at once, not started; one at a time is kept to be tried."""
    pool = make_pool(
        ROUTER
        + """
    handle.on("mail", breaker=Breaker(3, "1m", "300ms", while_open="dead-letter"))(depend)
    """,
        "--max-attempts", "500", "--batch-max", "10",
    )  # fmt: skip
    pool.books.set("down", 1)
    first = pool.push(numbers(5), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open")
    pool.wait_open("mail")
    mails, others = pool.push(numbers(300), "mail"), pool.push(numbers(20), "other")
    pool.wait_finished(others)
    until(lambda: len(pool.dead()) >= 200, "dead letters")
    assert {letter.reason for letter in pool.dead().values()} == {"breaker_open"}
    starts = pool.started()
    with Fleet(pool.server.url, "events", "workers") as fleet:
        (breaker,) = fleet.breakers.all()
    assert sum(starts.get(entry, 0) for entry in mails) <= breaker.opened, "more were started than probes"
    pool.books.delete("down")
    late: list[str] = []

    def is_closed() -> bool:
        late.extend(pool.push(numbers(1), "mail"))
        until(lambda: {*late} <= pool.dead().keys() | pool.finished().keys(), "the end of an entry")
        return bool(set(late) & pool.finished().keys())

    until(is_closed, "a breaker that is closed")
    pool.wait_settled()
    assert pool.stop() == 0
    dead = pool.dead()
    everything = [*first, *mails, *others, *late]
    assert pool.finished() == dict.fromkeys((entry for entry in everything if entry not in dead), 1)
    pool.assert_books(everything, dead)
    assert pool.counters()["DEAD_BREAKER"] == len(dead)
