"""What a handler depends on is down: its circuit breaker opens, and nothing is lost or charged meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until

from rsq import Fleet
from rsq.ipc.journal import WAITING_MAX

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


def test_entries_are_deferred_with_their_attempt(make_pool: Callable[..., Pool]) -> None:
    """It opens after 3 failures; the others wait without being started, entries of other events go on."""
    pool = make_pool(
        ROUTER
        + """
    handle.on("mail", breaker=Breaker(failures=3, window="1m", reset="300ms"))(depend)
    """,
        "--workers", "2", "--max-attempts", "50",
    )  # fmt: skip
    pool.books.set("down", 1)
    first = pool.push(numbers(5), "mail")
    pool.start()
    pool.wait_log("circuit breaker of mail is open: 3 failures within 60 s")
    pool.wait_open("mail")
    mails, others = pool.push(numbers(200), "mail"), pool.push(numbers(50), "other")
    pool.wait_finished(others)
    until(lambda: pool.counters()["DEFERRED"] >= 150, "mails that are deferred")
    pool.wait_log("a probe has failed", times=2)
    started = pool.started()
    with Fleet(pool.server.url, "events", "workers") as fleet:
        (breaker,) = fleet.breakers.all()
    assert sum(started.get(entry, 0) for entry in mails) <= breaker.opened, "more were started than probes"

    def charges() -> set[int]:
        counts = pool.delivery_counts("test:0") | pool.delivery_counts("test:1")
        return {counts[entry] for entry in counts.keys() - pool.started().keys()}

    until(lambda: charges() == {1}, "nobody charged who was not started, once all are in hand")
    pool.books.delete("down")
    mails += first
    pool.wait_finished(mails)
    pool.wait_settled()
    pool.wait_log("circuit breaker of mail is closed: probes went well")
    assert pool.stop() == 0
    pool.assert_exact([*mails, *others], restarted={entry: n for entry, n in pool.started().items() if n > 1})


def test_other_events_go_on_behind_thousands(make_pool: Callable[..., Pool]) -> None:
    """More than there is room for among the retries, and a worker that dies with all of them in hand."""
    pool = make_pool(
        ROUTER
        + """
    handle.on("mail", breaker=Breaker(failures=1, window="1m", reset="1h"))(depend)
    """,
        "--max-attempts", "50",
    )  # fmt: skip
    pool.books.set("down", 1)
    mails = pool.push(numbers(WAITING_MAX + 2000), "mail")
    others = pool.push(numbers(20), "other")
    pool.start()
    pool.wait_finished(others)
    until(lambda: pool.counters()["HANDLED"] == len(others), "the others, counted: not to be run again")
    begun = pool.started()
    pool.wait_successor(pool.kill_worker())
    more = pool.push(numbers(20), "other")
    pool.wait_finished(more)
    assert len(pool.started()) == len(begun) + len(more), "a deferred entry was started"
    with Fleet(pool.server.url, "events", "workers") as fleet:
        pool.books.delete("down")
        assert fleet.breakers.close("mail")
    pool.wait_finished(mails)
    pool.wait_settled()
    assert pool.stop() == 0
    failed = {entry: count for entry, count in pool.started().items() if count > 1}
    pool.assert_exact([*mails, *others, *more], restarted=failed)
