"""A host is lost while entries in its hand wait and are not started: nobody is charged for the loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_hosts import Fleet, lease_left
from support_pool import Pool, numbers, until

import rsq
from rsq.streams import keys

pytestmark = pytest.mark.every_server

RECORDS = keys.waiting("events", "workers")
LATER = """
    def handle(message):
        started(message)
        raise Retry("later", delay=3600)
"""
DOWN = """
    from rsq import Breaker, Router
    handle = Router()
    @handle.on("mail", breaker=Breaker(failures=2, window="1m", reset="1h"))
    def mail(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        if ledger().exists("down"):
            raise ConnectionError("down")
        finished(message)
"""


def wait_recorded(pool: Pool, count: int) -> None:
    """Wait until so many entries are recorded as waiting."""
    until(lambda: pool.redis.hlen(RECORDS) == count, f"{count} waiting records")


def test_retries_get_their_attempt_when_they_are_due(make_pool: Callable[..., Pool]) -> None:
    """Another host goes on with the attempt that comes next, and waits as long as was asked for."""
    options = ("--lease", "4", "--max-attempts", "2")
    lost = make_pool(LATER, "--instance", "lost", *options)
    other = make_pool(LATER, "--instance", "other", *options)
    fleet = Fleet(other, lost)
    lost.start()
    ids = lost.push(numbers(20))
    until(lambda: lost.counters()["RETRIED"] == 20, "all failures")
    wait_recorded(lost, 20)
    other.start()
    fleet.lose(lost)
    until(lambda: other.waiting().keys() == set(ids), "all of them on the other host")
    assert {attempt for attempt, _ in other.waiting().values()} == {2}
    assert min(due for _, due in other.waiting().values()) > 3000
    assert not lease_left(lost)
    assert fleet.swept() == {"taken": 20}
    assert other.stop() == 0
    assert other.started() == dict.fromkeys(ids, 1)
    assert other.dead() == {}


def test_the_same_host_comes_back_without_its_memory(make_pool: Callable[..., Pool]) -> None:
    """It goes on as if it had kept it: with the same attempts, at the same time."""
    pool = make_pool(LATER, "--lease", "4", "--max-attempts", "2")
    pool.start()
    ids = pool.push(numbers(20))
    until(lambda: pool.counters()["RETRIED"] == 20, "all failures")
    wait_recorded(pool, 20)
    Fleet(pool).lose(pool)
    pool.start()
    until(lambda: pool.waiting().keys() == set(ids), "all of them on the shelf")
    assert {attempt for attempt, _ in pool.waiting().values()} == {2}
    assert min(due for _, due in pool.waiting().values()) > 3000
    assert "whose memory is lost" not in pool.log()
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids, 1)


def test_what_a_breaker_defers_is_charged_nothing(make_pool: Callable[..., Pool]) -> None:
    """With a single attempt allowed, no entry that never ran becomes a dead letter."""
    options = ("--lease", "4", "--max-attempts", "1")
    lost = make_pool(DOWN, "--instance", "lost", *options)
    other = make_pool(DOWN, "--instance", "other", *options)
    fleet = Fleet(other, lost)
    lost.release("down")
    lost.start()
    failed = lost.push(numbers(2), "mail")
    until(lambda: lost.dead().keys() == set(failed), "two failures")
    lost.wait_open("mail")
    ids = lost.push(numbers(20), "mail")
    until(lambda: lost.deferred() == 20, "twenty entries deferred")
    wait_recorded(lost, 20)
    other.start()
    fleet.lose(lost)
    until(lambda: other.deferred() == 20, "all of them deferred on the other host")
    assert fleet.swept() == {"taken": 20}
    lost.books.delete("down")
    with rsq.Fleet(other.server.url, "events", "workers") as operator:
        operator.breakers.close("mail")
    other.wait_finished(ids)
    other.wait_settled()
    assert other.hash("attempts") == dict.fromkeys([*failed, *ids], 1)
    assert other.stop() == 0
    fleet.assert_exact([*failed, *ids], dead=dict.fromkeys(failed, 1))


def test_an_entry_whose_retry_runs_is_charged(make_pool: Callable[..., Pool]) -> None:
    """Its record goes before its handler starts: an entry that kills hosts in its retry is found out."""
    handler = """
        def handle(message):
            started(message)
            if message.attempt == 1:
                raise Retry(delay=0)
            wait_for("never")
        """
    options = ("--lease", "4", "--max-attempts", "2")
    lost = make_pool(handler, "--instance", "lost", *options)
    other = make_pool(handler, "--instance", "other", *options)
    fleet = Fleet(other, lost)
    lost.start()
    (entry,) = lost.push(numbers(1))
    lost.wait_started(entry, 2)
    other.start()
    fleet.lose(lost)
    until(other.dead, "a dead letter")
    assert [(letter.reason, letter.attempts) for letter in other.dead().values()] == [("host lost", 2)]
    assert fleet.swept() == {"buried": 1}
    assert other.stop() == 0
    fleet.assert_exact([entry], dead={entry: 2})


def test_what_waits_for_company_is_charged_nothing(make_pool: Callable[..., Pool]) -> None:
    """Entries that a batch handler has gathered for a while; their records go before they run."""
    handler = """
        from rsq import Router
        handle = Router()
        @handle.batch("mail", size=50, wait=3600)
        def mails(messages):
            assert not redis.Redis.from_url(os.environ["STREAMS"]).hlen("rsq:{events}:workers:waiting")
            for message in messages:
                started(message)
                ledger().hset("attempts", message.id, message.attempt)
                finished(message)
            return messages
        """
    options = ("--lease", "4", "--max-attempts", "1")
    lost = make_pool(handler, "--instance", "lost", *options)
    other = make_pool(handler, "--instance", "other", *options, STREAMS=lost.server.url)
    fleet = Fleet(other, lost)
    lost.start()
    ids = lost.push(numbers(20), "mail")
    wait_recorded(lost, 20)
    other.start()
    fleet.lose(lost)
    until(lambda: set(fleet.owners().values()) == {"other:0"}, "all of them on the other host")
    assert fleet.swept() == {"taken": 20}
    ids += other.push(numbers(30), "mail")
    other.wait_finished(ids)
    other.wait_settled()
    assert other.hash("attempts") == dict.fromkeys(ids, 1)
    assert other.stop() == 0
    fleet.assert_exact(ids)
