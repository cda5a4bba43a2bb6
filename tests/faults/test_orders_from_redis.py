"""What operators and leaders say to a pool through Redis."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

from rsq.ipc.cells import DeskState
from rsq.streams.marks import RESTING_MS
from rsq.streams.orders import Order

pytestmark = pytest.mark.every_server

ORDERS, INBOX = "rsq:{events}:workers:orders", "rsq:{events}:workers:inbox:test"
HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """


def test_pause_and_resume(make_pool: Callable[..., Pool]) -> None:
    """Noticed at once and kept over a restart; nothing is started in between."""
    pool = make_pool(HANDLER, "--lease", "600", "--workers", "2")
    pool.start()
    pool.redis.hset(ORDERS, "pause", Order("jo", 86400.0, "no mail").encode())
    pool.redis.rpush(INBOX, "orders")
    pool.wait_log(
        "events/workers: paused, nothing is started, by order of jo at 1970-01-02 00:00:00 UTC: no mail"
    )
    ids = pool.push(numbers(20))
    for slot in range(2):
        until(lambda slot=slot: pool.desk_state(slot) is DeskState.STANDING_BY, "a stand-by")  # type: ignore[misc]
    assert pool.stop() == 0
    pool.start()
    assert pool.keep("PAUSED") == 1
    assert pool.started() == {}
    pool.redis.hdel(ORDERS, "pause")
    pool.redis.rpush(INBOX, "orders")
    pool.wait_log("events/workers: resumed")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_drain(make_pool: Callable[..., Pool]) -> None:
    """The pool ends as on TERM; the order is carried out and gone."""
    pool = make_pool(HANDLER, "--lease", "600")
    pool.start()
    pool.redis.hset(ORDERS, "drain:test", "{}")
    pool.redis.rpush(INBOX, "orders")
    assert pool.wait() == 0
    assert "drained by order" in pool.log()
    assert pool.redis.hgetall(ORDERS) == {}


def test_entries_handed_to_a_slot_are_taken_at_once(make_pool: Callable[..., Pool]) -> None:
    """The keeper hears of them, and the worker is woken."""
    pool = make_pool(HANDLER, "--lease", "600")
    pool.start()
    pool.redis.hset(ORDERS, "pause", "{}")
    pool.redis.rpush(INBOX, "orders")
    until(lambda: pool.desk_state() is DeskState.STANDING_BY, "a stand-by")
    ids = pool.push(numbers(4))
    pool.redis.xreadgroup("workers", "lost:0", {"events": ">"})
    pool.redis.hdel(ORDERS, "pause")
    pool.redis.rpush(INBOX, "orders")
    until(lambda: pool.desk_state() is DeskState.IDLE, "an idle worker")
    for entry in ids:  # as the leader does
        pool.redis.xclaim(
            "events", "workers", "test:0", 0, [entry], idle=RESTING_MS, retrycount=0, justid=True
        )
    pool.redis.rpush(INBOX, "0")
    pool.wait_finished(ids)
    until(lambda: pool.pending() == 0, "an empty pending list")
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids, 1)


def test_entries_that_rest_are_found_without_a_word(make_pool: Callable[..., Pool]) -> None:
    """The word was lost with a keeper: its next beat sees them."""
    pool = make_pool(HANDLER, "--lease", "1", "--block-ms", "600000")
    pool.start()
    until(lambda: pool.desk_state() is DeskState.IDLE, "an idle worker")
    pool.redis.hset(ORDERS, "pause", "{}")
    until(lambda: pool.desk_state() is DeskState.STANDING_BY, "a stand-by")
    ids = pool.push(numbers(4))
    pool.redis.xreadgroup("workers", "lost:0", {"events": ">"})
    pool.redis.hdel(ORDERS, "pause")
    until(lambda: pool.desk_state() is DeskState.IDLE, "an idle worker")
    for entry in ids:
        pool.redis.xclaim(
            "events", "workers", "test:0", 0, [entry], idle=RESTING_MS, retrycount=0, justid=True
        )
    pool.wait_finished(ids)
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids, 1)
