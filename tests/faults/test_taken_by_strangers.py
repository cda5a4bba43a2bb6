"""Somebody outside the fleet takes entries from a slot that lives: nothing vanishes without a word."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

from rsq.supervisor.fleet import Fleet, Grade, Limits

pytestmark = pytest.mark.every_server

LONG = 50
HANDLER = f"""
    def handle(message):
        started(message)
        if message.data["n"] == 0:
            raise Retry("later", delay=3600)
        if message.data["n"] == {LONG} and message.attempt == 1:
            wait_for("go")
        finished(message)
"""
OPTIONS = ("--lease", "6", "--start-id", "$")


def delete_consumer(pool: Pool, _entry: str) -> None:
    pool.redis.xgroup_delconsumer("events", "workers", "test:0")


def acknowledge(pool: Pool, entry: str) -> None:
    pool.redis.xack("events", "workers", entry)


def make_group_anew(pool: Pool, _entry: str) -> None:
    pipe = pool.redis.pipeline(transaction=True)
    pipe.xgroup_destroy("events", "workers")
    pipe.xgroup_create("events", "workers", "$")
    pipe.execute()


def one_waits(pool: Pool) -> list[str]:
    """Bring a pool to where all but its first entry are done, which waits for long; return the ids."""
    pool.start()
    ids = pool.push(numbers(6))
    pool.wait_finished(ids[1:])
    until(lambda: ids[0] in pool.waiting() and pool.pending() == 1, "an entry that waits")
    return ids


def grade(pool: Pool) -> tuple[Grade, list[str]]:
    """Return how `rsq check` finds it, and the names of what is not good."""
    with Fleet(pool.server.url, "events", "workers") as fleet:
        health = fleet.check(Limits())
    return health.grade, [finding.check for finding in health.findings if finding.grade]


@pytest.mark.parametrize("harm", [delete_consumer, acknowledge, make_group_anew])
def test_a_retry_that_waits_is_counted_as_lost(
    make_pool: Callable[..., Pool], harm: Callable[[Pool, str], None]
) -> None:
    """Long before it is due, by the next beat; and whoever looks after the fleet is told."""
    pool = make_pool(HANDLER, *OPTIONS)
    ids = one_waits(pool)
    harm(pool, ids[0])
    until(lambda: pool.counters()["LOST"], "the count of what is lost")
    pool.wait_log(ids[0] + "\n")
    assert pool.waiting() == {}
    until(lambda: "lost" in grade(pool)[1], "a finding")
    more = pool.push(numbers(6)[1:])
    pool.wait_finished(more)
    pool.wait_settled()
    assert pool.stop() == 0
    assert "lost" in grade(pool)[1]
    pool.assert_exact(ids + more, lost={ids[0]: 1})


def test_one_that_a_stranger_claims_is_left_to_it(make_pool: Callable[..., Pool]) -> None:
    """It is pending, and somebody has it: it is not lost, and never runs here again."""
    pool = make_pool(HANDLER, *OPTIONS)
    ids = one_waits(pool)
    pool.redis.xclaim("events", "workers", "somebody", 0, [ids[0]])
    until(lambda: pool.waiting() == {}, "an empty table")
    assert pool.pending() == 1
    pool.redis.xack("events", "workers", ids[0])
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids, 1)
    assert pool.finished() == dict.fromkeys(ids[1:], 1)
    assert (pool.counters()["HANDLED"], pool.counters()["LOST"]) == (5, 0)


def test_one_that_a_stranger_claims_while_it_runs_is_done_when_it_ends(
    make_pool: Callable[..., Pool],
) -> None:
    pool = make_pool(HANDLER, *OPTIONS)
    pool.start()
    ids = pool.push([{"n": LONG}])
    pool.wait_started(ids[0])
    pool.redis.xclaim("events", "workers", "somebody", 0, [ids[0]])
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def behind_a_long_one(pool: Pool) -> tuple[list[str], list[str]]:
    """Take its consumer from a slot with entries in hand; return all ids, and those it has not started."""
    pool.start()
    pipe = pool.redis.pipeline(transaction=True)
    for n in range(1, 60):
        pipe.xadd("events", {"data": f'{{"n": {n}}}'})
    ids = [entry.decode() for entry in pipe.execute()]
    pool.wait_started(ids[LONG - 1])
    behind = [entry.decode() for entry in pool.batch().ids if entry.decode() > ids[LONG - 1]]
    assert behind, "it is the last of its batch"
    assert pool.redis.xgroup_delconsumer("events", "workers", "test:0") >= len(behind) + 1
    return ids, behind


HELD = ("--batch-max", "200", "--batch-ms", "60000", "--lease", "30", "--start-id", "$")


def test_what_is_in_hand_runs(make_pool: Callable[..., Pool]) -> None:
    """Its payload is there, although it is pending nowhere: whether the keeper had let it rest or not."""
    pool = make_pool(HANDLER, *HELD)
    ids, _ = behind_a_long_one(pool)
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


@pytest.mark.parametrize("end", ["crash", "drain"])
def test_what_is_in_hand_of_a_process_that_ends_is_lost(make_pool: Callable[..., Pool], end: str) -> None:
    """Its payload goes with the process; what was not read yet is another matter."""
    pool = make_pool(HANDLER, *HELD)
    ids, behind = behind_a_long_one(pool)
    if end == "crash":
        pool.wait_successor(pool.kill_worker())
        lost = dict.fromkeys(behind, 0) | {ids[LONG - 1]: 1}
        until(lambda: pool.counters()["LOST"] == len(lost), "the count of what is lost")
        pool.wait_finished(entry for entry in ids if entry not in lost)
        pool.wait_settled()
    else:
        lost = dict.fromkeys(behind, 0)
        pool.signal(signal.SIGTERM)
        pool.release("go")
    assert (pool.stop() if end == "crash" else pool.wait()) == 0
    if end == "drain":  # some may have run before the worker heard of it
        lost = {entry: attempt for entry, attempt in lost.items() if entry not in pool.finished()}
    counted = pool.counters()
    assert counted["LOST"] == len(lost)
    assert all(entry in pool.log() for entry in lost)
    assert counted["HANDLED"] == len(pool.finished())
    assert pool.started() == dict.fromkeys(pool.finished(), 1) | {e: n for e, n in lost.items() if n}
    assert counted["HANDLED"] + counted["LOST"] + pool.pending() + pool.unread() == len(ids)
