"""Entries with 10,000 fields, more than a Lua script can hand on as arguments."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool

from rsq.streams.deadletter import DeadLetters

FIELDS = {b"field-%05d" % n: b"\xff%d" % n for n in range(10_000)}


def test_handled_dead_lettered_and_replayed_whole(make_pool: Callable[..., Pool]) -> None:
    """One is handled, the other rejected; put back from its dead letter, it is handled too."""
    pool = make_pool("""
        def handle(message):
            started(message)
            if b"poison" in message.fields and not ledger().exists("cured"):
                raise Reject("poison")
            ledger().hset("fields", message.id, len(message.fields))
            assert message.data["field-09999"] == "\\\\xff9999"
            finished(message)
        """)
    good, bad = pool.add(FIELDS), pool.add({b"poison": b"1", **FIELDS, b"event": b"last"})
    assert pool.run() == 0, pool.log()
    pool.assert_exact([good, bad], dead={bad: 1})
    assert dict(pool.dead()[bad].fields) == {b"poison": b"1", **FIELDS, b"event": b"last"}
    pool.books.set("cured", 1)
    (replayed,) = DeadLetters(pool.redis, "events").replay(everything=True)
    assert replayed.new_id
    assert pool.run() == 0, pool.log()
    ledger = {good: 1, bad: 1, replayed.new_id: 1}
    assert (pool.started(), pool.finished()) == (ledger, {good: 1, replayed.new_id: 1})
    assert pool.books.hget("fields", replayed.new_id) == b"10002"
    assert (pool.pending(), pool.unread(), pool.dead()) == (0, 0, {})
    counted = pool.counters()
    assert (counted["READ"], counted["HANDLED"], counted["DEAD"]) == (3, 2, 1)
