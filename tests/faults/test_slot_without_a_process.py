"""A wanted slot has no working process for a long time: its process cannot boot any more."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
from support_hosts import Fleet
from support_pool import Pool, numbers, until

from rsq.streams.marks import RESTING_MS

# The first process of slot 0 works; those behind it do what the test wants until it is mended.
HANDLER = """
    import setproctitle
    def slot():
        return int(setproctitle.getproctitle().split()[2].rpartition(":")[2])
    def worker_start():
        if slot() != 0 or ledger().incr("boots") == 1 or ledger().exists("mended"):
            return
        if os.environ["HOW"] == "waits":
            wait_for("mended")
        elif os.environ["HOW"] == "fails":
            raise OSError("no database here")
        else:
            segfault()
    def handle(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        if message.data["n"] == 0 and message.attempt == 1:
            wait_for("never")
        if message.data["n"] == 1000 and slot() != 0:
            ledger().sadd("busy", slot())
            wait_for(f"go {slot()}")
        finished(message)
"""


def begin(pool: Pool) -> tuple[list[str], list[str]]:
    """Kill slot 0 while it has four entries in hand and the others are busy; return those ids, and the rest.

    Nothing can be lent to slots that are busy until the test lets them go.
    """
    pool.start()
    rest = []
    for slot in (1, 2):
        pool.signal(signal.SIGTTIN)
        until(lambda slot=slot: slot in pool.booted(), "another slot")  # type: ignore[misc]
    while pool.redis.scard("busy") < 2:
        rest += pool.push([{"n": 1000}])
        pool.wait_started(rest[-1])
    quick: list[str] = []
    while not quick or len(pool.batch().ids) < 4:  # slot 0 reads more than the last time
        quick += pool.push(numbers(300)[1:])
        pool.wait_finished(quick)
    with pool.redis.pipeline(transaction=True) as together:
        for n in range(4):
            together.xadd("events", {"data": f'{{"n":{n}}}'})
        held = [entry.decode() for entry in together.execute()]
    pool.wait_started(held[0])
    assert len(pool.batch().ids) == 4
    pool.kill_worker(0)
    return held, [*quick, *rest]


@pytest.mark.parametrize("how", ["waits", "fails", "crashes"])
def test_others_take_what_it_held(make_pool: Callable[..., Pool], how: str) -> None:
    """After four leases, each charged an attempt. What the other slots have in hand is charged nothing."""
    pool = make_pool(HANDLER, "--lease", "1", "--max-attempts", "3", "--batch-ms", "60000", HOW=how)
    held, rest = begin(pool)
    pool.wait_log("slot 0 of instance test of events/workers has no working process for four leases: its 4")
    pool.release("go 1")
    pool.wait_finished(held)
    pool.release("go 2")
    pool.wait_finished(rest)
    pool.wait_settled()
    assert pool.hash("attempts") == dict.fromkeys(held, 2) | dict.fromkeys(rest, 1)
    pool.release("mended")
    until(lambda: 0 in pool.booted(), "slot 0")
    more = pool.push(numbers(20)[1:])
    pool.wait_finished(more)
    pool.wait_settled()
    fleet = Fleet(pool)
    fleet.stop()
    assert fleet.swept() == {"taken": 4}
    fleet.assert_exact([*held, *rest, *more], restarted={held[0]: 2})
    assert pool.counters()["FAILED"] == 1


def test_only_time_counts(make_pool: Callable[..., Pool]) -> None:
    """A keeper that beats more often, for a word in its inbox or because beats fail, lets go no sooner."""
    pool = make_pool(HANDLER, "--lease", "600", "--batch-ms", "60000", HOW="waits")
    held, rest = begin(pool)
    for _ in range(30):
        before = pool.keep("UNTIL")
        pool.redis.rpush("rsq:{events}:workers:inbox:test", "orders")
        until(lambda before=before: pool.keep("UNTIL") > before, "a beat")  # type: ignore[misc]
    rows: Any = pool.redis.xpending_range("events", "workers", "-", "+", 10, "test:0")
    assert [row["message_id"].decode() for row in rows] == held
    assert max(row["time_since_delivered"] for row in rows) < RESTING_MS
    pool.release("mended")
    pool.release("go 1")
    pool.release("go 2")
    pool.wait_finished([*held, *rest])
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.hash("attempts") == dict.fromkeys([*held, *rest], 1) | {held[0]: 2}
    pool.assert_exact([*held, *rest], restarted={held[0]: 2})
