"""Batches, and a pool that ends, loses its master, or lends: nothing is lost, charged, or run twice."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from typing import Any

from support_pool import Pool, numbers, until

from rsq.ipc.cells import DeskState, W
from rsq.streams.orders import Order

HANDLER = """
    from rsq import Router
    handle = Router()
    @handle.batch("audit", size=20, wait={wait})
    def audit(messages):
        for message in messages:
            started(message)
            ledger().hset("attempts", message.id, message.attempt)
        ledger().rpush("sizes", len(messages))
        if {holds}:
            wait_for("go")
        for message in messages:
            finished(message)
        return [message.id for message in messages]
    @handle.default
    def single(message):
        started(message)
        if message.data.get("long"):
            wait_for("go")
        finished(message)
"""


def handler(wait: float = 0.2, *, holds: bool = False) -> str:
    return HANDLER.replace("{wait}", str(wait)).replace("{holds}", str(holds))


def test_drained_while_it_gathers(make_pool: Callable[..., Pool]) -> None:
    """What waits for company is handed back, uncharged, and handled by whoever comes next."""
    pool = make_pool(handler(wait=600))
    ids = pool.push(numbers(10), "audit")
    single = pool.push(numbers(5))
    pool.start()
    pool.wait_finished(single)
    until(lambda: pool.pending() == 10 and pool.unread() == 0, "ten entries that wait")
    assert pool.stop() == 0
    assert set(pool.delivery_counts().values()) == {0}
    assert pool.started() == dict.fromkeys(single, 1)
    pool.write(handler())
    assert pool.run() == 0, pool.log()
    pool.assert_exact([*ids, *single])
    assert set(pool.hash("attempts").values()) == {1}


def test_killed_while_it_gathers(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(handler(wait=600))
    ids = pool.push(numbers(10), "audit")
    pool.start()
    until(lambda: pool.pending() == 10, "ten entries that wait")
    killed = pool.kill_worker()
    pool.wait_successor(killed)
    ids += pool.push(numbers(10), "audit")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert set(pool.hash("attempts").values()) == {1}
    assert pool.counters()["FAILED"] == 0


def test_paused_while_it_gathers(make_pool: Callable[..., Pool]) -> None:
    """No call begins in the pause, though it is due; after it what waited is handled, uncharged."""
    pool = make_pool(handler(wait=6), "--lease", "1").start()
    orders = "rsq:{events}:workers:orders"
    ids = pool.push(numbers(10), "audit")
    until(lambda: pool.pending() == 10, "ten entries that wait")
    pool.redis.hset(orders, "pause", Order("jo", 1.0, "").encode())
    pool.redis.rpush("rsq:{events}:workers:inbox:test", "orders")
    until(lambda: pool.keep("PAUSED") == 1, "the pause")
    until(lambda: pool.desk_state(0) is DeskState.STANDING_BY, "a worker that stands by")
    until(lambda: _age_s(pool, ids[-1]) > 7, "the moment at which the call is due")
    assert pool.started() == {}
    pool.redis.hdel(orders, "pause")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert set(pool.hash("attempts").values()) == {1}


def _age_s(pool: Pool, entry: str) -> float:
    now: Any = pool.redis.time()
    return float(now[0] - int(entry.partition("-")[0]) / 1000)


def test_a_worker_is_replaced_while_it_gathers(make_pool: Callable[..., Pool]) -> None:
    """By a reload, in good order: the next process finds what its predecessor was waiting with."""
    pool = make_pool(handler(wait=600))
    ids = pool.push(numbers(10), "audit")
    pool.start()
    until(lambda: pool.pending() == 10, "ten entries that wait")
    pool.signal(signal.SIGHUP)
    pool.wait_log("reloaded: every slot runs the new code")
    ids += pool.push(numbers(10), "audit")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert set(pool.hash("attempts").values()) == {1}
    assert pool.counters()["FAILED"] == 0


def test_the_stream_ends_before_a_batch_is_full(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(handler(wait=2))
    ids = pool.push(numbers(43), "audit")
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    sizes = [int(size) for size in pool.books.lrange("sizes", 0, -1)]
    assert max(sizes) == 20
    assert len(sizes) <= 5


def test_told_to_end_in_the_middle_of_a_call(make_pool: Callable[..., Pool]) -> None:
    """The call is finished and acknowledged; what was gathered beside it goes back."""
    pool = make_pool(handler(wait=600, holds=True))
    ids = pool.push(numbers(30), "audit")
    pool.start()
    pool.wait_count(started=20)
    pool.signal(signal.SIGTERM)
    pool.release("go")
    assert pool.wait() == 0
    pool.write(handler())
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    assert set(pool.hash("attempts").values()) == {1}


def test_the_master_is_killed_in_the_middle_of_a_call(make_pool: Callable[..., Pool]) -> None:
    """Its worker finishes the call, hands the rest back and goes; the next master goes on."""
    pool = make_pool(handler(wait=600, holds=True))
    ids = pool.push(numbers(30), "audit")
    pool.start()
    pool.wait_count(started=20)
    pool.kill_master()
    pool.release("go")
    pool.wait_free()
    pool.write(handler())
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    assert set(pool.hash("attempts").values()) == {1}


def test_the_whole_pool_is_killed_in_the_middle_of_a_call(make_pool: Callable[..., Pool]) -> None:
    """Nobody saw how the worker died, so its entries are suspects, but nobody is charged who runs well."""
    pool = make_pool(handler(wait=600, holds=True))
    ids = pool.push(numbers(20), "audit")
    pool.start()
    pool.wait_count(started=20)
    worker = pool.worker()
    pool.kill_master()
    os.kill(worker, signal.SIGKILL)
    pool.wait_free()
    pool.release("go")
    pool.write(handler())
    assert pool.run() == 0, pool.log()
    pool.assert_books(ids)
    assert pool.started() == dict.fromkeys(ids, 2)
    assert set(pool.hash("attempts").values()) == {1}
    assert pool.counters()["FAILED"] == 0


def test_a_long_entry_does_not_keep_what_is_gathered(make_pool: Callable[..., Pool]) -> None:
    """It is lent to a slot that comes to be idle, which handles it, once."""
    pool = make_pool(handler(wait=5), "--batch-ms", "60000")
    first = pool.push(numbers(1))
    pool.start()
    pool.wait_finished(first)
    pool.wait_settled()
    ids = pool.push(numbers(3), "audit")
    (long,) = pool.push([{"long": True}])
    pool.wait_started(long)
    pool.signal(signal.SIGTTIN)
    pool.wait_finished(ids)
    assert pool.finished().keys() == {*first, *ids}
    segment = pool.segment()
    try:
        assert segment.slot(0).ward.view[W.LENT] == 3
    finally:
        segment.close()
    pool.release("go")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([*first, *ids, long])


def test_workers_killed_again_and_again(make_pool: Callable[..., Pool]) -> None:
    """Of batches and single entries, mixed, none is lost, and the numbers are exact."""
    pool = make_pool(handler(wait=0.02), "--workers", "2", "--max-attempts", "1000")
    ids: list[str] = []
    for _ in range(60):
        ids += pool.push(numbers(20), "audit") + pool.push(numbers(5))
    pool.start()
    for done in range(100, 1300, 150):
        until(lambda done=done: len(pool.finished()) >= done, f"{done} entries")  # type: ignore[misc]
        seats = pool.seats()
        slot = random.choice(sorted(seats))
        try:
            os.kill(seats[slot], signal.SIGKILL)
        except ProcessLookupError:
            continue
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_books(ids)
    assert set(ids) == pool.finished().keys()
