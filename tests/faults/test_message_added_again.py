"""A message is added several times, and the pool is told to handle it once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support_pool import Pool

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        if "fail" in message.fields.get(b"data", b"").decode() and message.attempt == 1:
            raise Retry(delay=3)
        finished(message)
    """


def add(pool: Pool, key: str, data: str = "{}") -> str:
    return pool.add({b"data": data.encode(), b"key": key.encode()})


def event(pool: Pool, name: str, key: str, data: str = "{}") -> str:
    return pool.add({b"event": name.encode(), b"data": data.encode(), b"key": key.encode()})


def streamix(pool: Pool, name: str, retries: int) -> str:
    told = {"id": name, "event": "e", "data": {}, "retries": retries, "timestamps": {}}
    return pool.add({b"message": json.dumps(told).encode()})


def test_copies_in_one_read_and_later(make_pool: Callable[..., Pool]) -> None:
    """Acknowledged without a call and counted; what has no key of its own is no copy of anything."""
    pool = make_pool(HANDLER, "--once", "1h")
    firsts = [add(pool, f"k{n}") for n in range(5)]
    copies = [add(pool, f"k{n % 5}") for n in range(20)]
    firsts += [pool.add({b"data": b"{}"}) for _ in range(3)]
    firsts += [pool.add({b"key": b"k1", b"plain": b"fields"}) for _ in range(2)]
    firsts.append(streamix(pool, "uuid", 0))
    copies.append(streamix(pool, "uuid", 1))
    assert pool.run() == 0, pool.log()
    copies += [add(pool, "k3"), streamix(pool, "uuid", 0)]
    firsts.append(add(pool, "k9"))
    assert pool.run() == 0, pool.log()
    pool.assert_exact([*firsts, *copies], duplicates=copies)


def test_another_worker_and_another_pool_know_it(make_pool: Callable[..., Pool]) -> None:
    one, two = make_pool(HANDLER, "--once", "1h"), make_pool(HANDLER, "--once", "1h", "--instance", "other")
    ids = [add(one, "k")]
    assert one.run() == 0, one.log()
    copies = [add(one, "k") for _ in range(3)]
    assert two.run("--workers", "3") == 0, two.log()
    assert one.started() == dict.fromkeys(ids, 1)
    assert two.counters()["DUPLICATES"] == len(copies)
    assert (one.pending(), one.unread()) == (0, 0)


def test_another_group_has_marks_of_its_own(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(HANDLER, "--once", "1h")
    entry = add(pool, "k")
    assert pool.run() == 0, pool.log()
    assert pool.run("--group", "others") == 0, pool.log()
    assert pool.started() == {entry: 2}


def test_a_failure_leaves_no_mark(make_pool: Callable[..., Pool]) -> None:
    """The copy behind it is handled; then the first, which waits for its retry, is a copy itself."""
    pool = make_pool(HANDLER, "--once", "1h")
    failing, good = add(pool, "k", '"fail"'), add(pool, "k")
    assert pool.run() == 0, pool.log()
    assert pool.started() == {failing: 1, good: 1}
    assert pool.finished() == {good: 1}
    counted = pool.counters()
    assert (counted["READ"], counted["HANDLED"], counted["DUPLICATES"]) == (2, 1, 1)
    assert (counted["FAILED"], counted["RETRIED"], counted["DEAD"]) == (1, 1, 0)


def test_a_dead_letter_leaves_no_mark(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(HANDLER, "--once", "1h", "--max-attempts", "1")
    dead, good = add(pool, "k", '"fail"'), add(pool, "k")
    undecodable = add(pool, "j", "{")
    assert pool.run() == 0, pool.log()
    pool.assert_exact([dead, good, undecodable], dead={dead: 1, undecodable: 0})
    assert len(marks(pool)) == 1


def test_a_mark_lasts_from_the_first_time(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(HANDLER, "--once", "1h")
    add(pool, "k")
    assert pool.run() == 0, pool.log()
    (name,) = marks(pool)
    assert name == b"rsq:{events}:workers:once:k"
    assert 0 < ttl_ms(pool, name) <= 3_600_000
    pool.redis.pexpire(name, 1_000_000)
    add(pool, "k")
    assert pool.run() == 0, pool.log()
    assert ttl_ms(pool, name) <= 1_000_000
    pool.redis.delete(name)
    entry = add(pool, "k")
    assert pool.run() == 0, pool.log()
    assert pool.started()[entry] == 1


def test_long_and_hostile_keys(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(HANDLER, "--once", "1h")
    keys = [b"", b"\xff\0 \r\n", b"{x}", b"*", b"k" * 128, b"k" * 129, b"k" * 100_000]
    firsts = [pool.add({b"data": b"{}", b"key": key}) for key in keys]
    copies = [pool.add({b"data": b"{}", b"key": key}) for key in keys if key]
    nameless = pool.add({b"data": b"{}", b"key": b""})  # an empty key names nothing
    assert pool.run() == 0, pool.log()
    pool.assert_exact([*firsts, *copies, nameless], duplicates=copies)
    assert max(map(len, marks(pool))) < 200


ROUTER = """
    from rsq import Router
    handle = Router()
    @handle.on("order", once="1h")
    def order(message):
        started(message)
        finished(message)
    @handle.on("view")
    def view(message):
        started(message)
        finished(message)
    @handle.batch("row", size=50, wait=0, once="1h")
    def row(messages):
        for message in messages:
            started(message)
        done = [one for one in messages if one.data != "fail" or one.attempt > 1]
        for message in done:
            finished(message)
        return done
"""


def test_only_copies_of_events_that_are_remembered(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(ROUTER)
    orders = [event(pool, "order", "k") for _ in range(3)]
    views = [event(pool, "view", "k2") for _ in range(3)]
    ignored = [event(pool, "strange", "k3") for _ in range(3)]
    assert pool.run() == 0, pool.log()
    assert pool.finished() == dict.fromkeys([orders[0], *views], 1)
    counted = pool.counters()
    assert (counted["HANDLED"], counted["DUPLICATES"], counted["IGNORED"]) == (4, 2, len(ignored))
    assert marks(pool) == [b"rsq:{events}:workers:once:k"]


def test_copies_in_a_batch_wait_for_the_first(make_pool: Callable[..., Pool]) -> None:
    """They come with the next call: as copies if it was done, else to be handled themselves."""
    pool = make_pool(ROUTER, "--batch-ms", "60000")  # all of one message in one read, however slow the first
    good = [event(pool, "row", f"k{n % 3}") for n in range(30)]
    failing, second, third = (event(pool, "row", "j", data) for data in ('"fail"', "1", "2"))
    assert pool.run() == 0, pool.log()
    assert pool.finished() == dict.fromkeys([*good[:3], second], 1)
    assert pool.started() == dict.fromkeys([*good[:3], failing, second], 1)
    counted = pool.counters()
    assert (counted["HANDLED"], counted["DUPLICATES"]) == (4, 29)
    assert (counted["FAILED"], counted["RETRIED"], counted["DEAD"]) == (1, 1, 0)
    assert (pool.pending(), pool.unread()) == (0, 0)
    assert third not in pool.started()
    later = event(pool, "row", "k0")
    assert pool.run() == 0, pool.log()
    assert later not in pool.started()


def test_without_the_option_every_copy_is_handled(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(HANDLER)
    ids = [add(pool, "k") for _ in range(3)]
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    assert not marks(pool)


def marks(pool: Pool) -> list[Any]:
    return list(pool.redis.scan_iter(match="*:once:*"))


def ttl_ms(pool: Pool, name: bytes) -> int:
    found: Any = pool.redis.pttl(name)
    return int(found)
