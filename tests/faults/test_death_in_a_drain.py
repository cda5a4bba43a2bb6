"""A worker is cut off, dies or is killed while its pool stops or its slot closes."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest
from support_hosts import Fleet
from support_pool import Pool, numbers, until
from support_proxy import Proxy

from rsq.ipc.cells import D, PoolState

HANDLER = """
    def handle(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        if message.data["n"] == 3 and ledger().incr("long") == 1:
            LONG
        finished(message)
    """
WAYS = {
    "cut off": ("wait_for('never')", ["--drain-timeout", "1"]),
    "dies": ("wait_for('go'); os._exit(3)", []),
    "time limit": ("wait_for('never')", ["--timeout", "5"]),
}


def resting(pool: Pool, entries: list[str]) -> dict[str, int]:
    """Return id -> attempts used, of entries that rest: anybody may take them, and is not charged."""
    rested = {row["message_id"].decode(): row["times_delivered"] for row in pool.resting()}
    assert rested == pool.delivery_counts(), "some are still held"
    assert rested.keys() <= set(entries[3:]), "what was finished is still pending"
    return rested


@pytest.mark.every_server
@pytest.mark.parametrize("way", WAYS)
def test_it_is_put_in_order_before_the_pool_ends(make_pool: Callable[..., Pool], way: str) -> None:
    """What was finished is acknowledged, the rest handed back, and only who died of it is charged.

    Another pool of the group then runs each unfinished entry, and nothing else.
    """
    long, options = WAYS[way]
    pool = make_pool(HANDLER.replace("LONG", long), *options)
    other = make_pool(HANDLER, "--instance", "other")
    ids = pool.push(numbers(6))
    pool.start()
    pool.wait_started(ids[3])
    pool.signal(signal.SIGTERM)
    pool.wait_state(PoolState.STOPPING)
    pool.release("go")
    assert pool.wait() == 0
    used = 0 if way == "cut off" else 1
    rest = resting(pool, ids)
    assert rest.pop(ids[3]) == used, pool.log()
    assert not any(rest.values()), "an entry that was not started is charged"
    other.start()
    other.wait_finished(ids)
    other.wait_settled()
    assert other.stop() == 0
    attempts = {**dict.fromkeys(ids, 1), ids[3]: 1 + used}
    assert pool.hash("attempts") == attempts
    Fleet(other, pool).assert_exact(ids, restarted={ids[3]: 2})


def test_what_a_batch_has_marked_is_acknowledged(make_pool: Callable[..., Pool]) -> None:
    """Its call is cut off: entries that it has declared done are done, whatever becomes of it."""
    pool = make_pool(
        """
        from rsq import Router
        app = Router()
        @app.batch("e", size=20, wait=5)
        def many(messages):
            for message in messages:
                started(message)
                if message.data["n"] == 15 and ledger().incr("long") == 1:
                    wait_for("never")
                finished(message)
                message.done()
        """,
        "--drain-timeout", "1",
    )  # fmt: skip
    pool.target = "app:app"
    ids = pool.push(numbers(20), event="e")
    pool.start()
    pool.wait_started(ids[15])
    assert pool.stop() == 0
    assert resting(pool, ids[12:]) == dict.fromkeys(ids[15:], 0), pool.log()
    assert pool.run() == 0
    pool.assert_exact(ids, restarted={ids[15]: 2})


def test_a_second_death_changes_nothing(make_pool: Callable[..., Pool]) -> None:
    """The process that recovers the slot is killed as well: another one does its work."""
    pool = make_pool(HANDLER.replace("LONG", "wait_for('never')"), "--drain-timeout", "1")
    ids = pool.push(numbers(6))
    pool.start()
    pool.wait_started(ids[3])
    first = pool.worker()
    pool.redis.client_pause(100_000, all=False)  # it cannot get far
    try:
        pool.signal(signal.SIGTERM)
        pool.wait_log("is cut off")
        until(lambda: any(pid != first for pid in pool.holders()), "a process that recovers")
        pool.kill_worker()
    finally:
        pool.redis.client_unpause()
    assert pool.wait() == 0
    assert not any(resting(pool, ids).values()), pool.log()


def test_a_server_that_is_away_is_the_one_excuse(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """The pool ends in time and says what its memory keeps; its next life runs nothing of that again."""
    pool = make_far_pool(HANDLER.replace("LONG", "wait_for('go')"))
    ids = pool.push(numbers(4))
    pool.start()
    pool.wait_started(ids[3])
    proxy.refuse()
    proxy.cut()
    pool.release("go")
    until(lambda: len(pool.finished()) == 4, "the end of all entries")
    assert pool.stop() == 0
    assert re.search("[1-4] finished entries and 0 others", pool.log()), pool.log()
    proxy.heal()
    assert pool.run() == 0
    pool.assert_exact(ids)


def test_a_slot_closes_when_it_has_told_the_server(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """Its drain found no server: the slot is kept until one answers, and nobody is charged for it."""
    pool = make_far_pool(
        """
        def handle(message):
            started(message)
            ledger().hset("attempts", message.id, message.attempt)
            wait_for("go")
            finished(message)
        """,
        "--workers", "2", "--batch-max", "1",
    )  # fmt: skip
    ids = pool.push(numbers(2))
    pool.start()
    pool.wait_count(started=2)
    proxy.refuse()
    proxy.cut()
    pool.signal(signal.SIGTTOU)
    pool.wait_log("one worker fewer")
    pool.release("go")
    until(lambda: len(pool.finished()) == 2, "the end of both entries")
    pool.wait_log("ended without Redis", deadline_s=60)
    proxy.heal()
    until(lambda: list(pool.seats()) == [0] and not holds(pool, 1), "a closed slot")
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.hash("attempts") == dict.fromkeys(ids, 1)
    pool.assert_exact(ids)


def holds(pool: Pool, slot: int) -> bool:
    """Tell whether the memory of a slot tells of entries in hand."""
    segment = pool.segment()
    try:
        return bool(segment.slot(slot).desk.view[D.HOLDS])
    finally:
        segment.close()
