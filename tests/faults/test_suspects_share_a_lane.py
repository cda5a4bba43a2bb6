"""Suspects on their last attempt, in different slots of one pool: each has the pool for itself among them."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until

from rsq.ipc.segment import LANE
from rsq.streams.marks import SUSPECT_MS

HANDLER = """
    def handle(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        if message.attempt == 3:
            assert ledger().incr("inside") == 1, "another one's last attempt runs beside it"
            wait_for("go:" + message.id)
            ledger().decr("inside")
            assert not ledger().exists("fail:" + message.id)
        finished(message)
"""
LANE_OF_TWO = ("--lease", "600", "--workers", "2", "--max-attempts", "3")


def give(pool: Pool) -> dict[str, int]:
    """Give each slot a suspect that was started twice, as a leader does; return id -> slot."""
    ids = pool.push(numbers(2))
    given = {}
    for slot, entry in enumerate(ids):
        pool.redis.xgroup_createconsumer("events", "workers", f"test:{slot}")
        pool.redis.xreadgroup("workers", f"test:{slot}", {"events": ">"}, count=1)
        pool.redis.xclaim(
            "events", "workers", f"test:{slot}", 0, [entry], idle=SUSPECT_MS, retrycount=2, justid=True
        )
        given[entry] = slot
    return given


def lane(pool: Pool) -> int | None:
    """Return the pid of the process that has the lane."""
    segment = pool.segment()
    try:
        return segment.slot_holder(LANE)
    finally:
        segment.close()


def first(pool: Pool, given: dict[str, int]) -> tuple[str, str]:
    """Wait until one of them runs; return it, and the one that waits."""
    until(lambda: len(pool.started()) == 1, "a suspect that runs")
    (runs,) = pool.started()
    (waits,) = given.keys() - {runs}
    assert lane(pool) == pool.worker(given[runs])
    until(lambda: pool.redis.get("inside") == b"1", "the handler's own count")
    return runs, waits


def test_one_after_the_other(make_pool: Callable[..., Pool]) -> None:
    """The slot that waits for the lane does its other work meanwhile."""
    pool = make_pool(HANDLER, *LANE_OF_TWO)
    pool.redis.xgroup_create("events", "workers", "0", mkstream=True)
    given = give(pool)
    pool.start()
    runs, waits = first(pool, given)
    ids = pool.push(numbers(20))
    pool.wait_finished(ids)
    assert pool.started().keys() == {runs, *ids}
    pool.release(f"go:{runs}")
    pool.wait_started(waits)
    assert lane(pool) == pool.worker(given[waits])
    pool.release(f"go:{waits}")
    pool.wait_finished([waits])
    pool.wait_settled()
    until(lambda: lane(pool) is None, "a free lane")
    assert pool.hash("attempts") == {runs: 3, waits: 3} | dict.fromkeys(ids, 1)
    assert pool.stop() == 0
    assert pool.started() == pool.finished() == dict.fromkeys([*given, *ids], 1)
    assert pool.dead() == {}


def test_a_slot_that_is_killed_frees_the_lane(make_pool: Callable[..., Pool]) -> None:
    """Its own suspect is a dead letter, for that was the last attempt; the other one runs, uncharged."""
    pool = make_pool(HANDLER, *LANE_OF_TWO)
    pool.redis.xgroup_create("events", "workers", "0", mkstream=True)
    given = give(pool)
    pool.start()
    runs, waits = first(pool, given)
    until(lambda: pool.redis.get("inside") == b"1", "a handler that is inside")
    pool.redis.decr("inside")
    pool.kill_worker(given[runs])
    pool.wait_started(waits)
    assert lane(pool) == pool.worker(given[waits])
    pool.release(f"go:{waits}")
    pool.wait_finished([waits])
    until(pool.dead, "the dead letter")
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.started() == {runs: 1, waits: 1}
    assert pool.finished() == {waits: 1}
    letter = pool.dead()[runs]
    assert (letter.reason, letter.attempts) == ("crash: SIGKILL", 3)
    assert pool.counters()["HANDLED"] == pool.counters()["DEAD"] == 1


def test_the_lane_is_free_when_its_handler_fails(make_pool: Callable[..., Pool]) -> None:
    """An exception on the last attempt ends in the dead letters, and the other one runs."""
    pool = make_pool(HANDLER, *LANE_OF_TWO)
    pool.redis.xgroup_create("events", "workers", "0", mkstream=True)
    given = give(pool)
    pool.start()
    runs, waits = first(pool, given)
    pool.release(f"fail:{runs}")
    pool.release(f"go:{runs}")
    pool.release(f"go:{waits}")
    pool.wait_finished([waits])
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.started() == {runs: 1, waits: 1}
    assert pool.finished() == {waits: 1}
    assert pool.dead()[runs].attempts == 3
