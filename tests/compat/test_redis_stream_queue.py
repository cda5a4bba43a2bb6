"""redis-stream-queue 0.1.3: its producer writes, a pool reads; its consumer and a pool share one group."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from redis_stream_queue import (
    ConsumerConfig,
    JsonSerializer,
    MsgpackSerializer,
    PickleSerializer,
    StreamClient,
    StreamConsumer,
    StreamProducer,
)
from support_pool import Pool, numbers, until
from support_servers import Server

from rsq.streams.producer import Producer, PushError

HANDLER = """
    def handle(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        if message.data["n"] == 0:
            wait_for("go")
        finished(message)
    """
ROWS: list[dict[str, Any]] = [
    {"n": 1, "text": "Zoë\0", "deep": [{"a": None}, 1.5, True]},
    {},
    {"big": "x" * 100_000},
    {"ключ": 2**40},
]
Theirs = Callable[[list[Any]], Any]


def push(server: Server, rows: Iterable[dict[str, Any]], serializer: Any = None) -> list[str]:
    """Let their producer push; return the ids."""

    async def pushed() -> list[str]:
        client = StreamClient.from_url(server.tcp_url)
        try:
            producer = StreamProducer(client, "events", serializer=serializer)
            return list(await producer.push_many(list(rows)))
        finally:
            await _close(client)

    return asyncio.run(pushed())


def consume(server: Server, handler: Theirs, passes: int = 1, **config: Any) -> None:
    """Let their consumer do so many passes."""

    async def consumed() -> None:
        client = StreamClient.from_url(server.tcp_url)
        settings = ConsumerConfig("workers", worker_name="theirs", block_ms=100, **config)
        consumer = StreamConsumer(client, "events", settings, handler)
        try:
            for _ in range(passes):
                # Before Redis 7 it stumbles over what XAUTOCLAIM answers, when it has handled what it read.
                with contextlib.suppress(*([ValueError] if server.version < (7,) else [])):
                    await consumer.run_once()
        finally:
            consumer._cg.reset()  # what it knows of groups outlives the server of a test
            await _close(client)

    asyncio.run(consumed())


@pytest.mark.parametrize(
    ("theirs", "options"),
    [
        (JsonSerializer, ()),
        (MsgpackSerializer, ("--serializer", "msgpack")),
        (PickleSerializer, ("--serializer", "pickle", "--allow-pickle")),
        (JsonSerializer, ("--envelope", "data")),
        (JsonSerializer, ("--envelope", "rsq")),
    ],
)
def test_what_it_writes_is_read(
    make_pool: Callable[..., Pool], server: Server, theirs: Any, options: tuple[str, ...]
) -> None:
    pool = make_pool(
        """
        import json
        def handle(message):
            started(message)
            ledger().hset("data", message.id, json.dumps([message.data, message.event, message.attempt]))
            finished(message)
        """,
        *options,
    )
    ids = push(server, ROWS, theirs())
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    for entry, row in zip(ids, ROWS, strict=True):
        assert json.loads(pool.books.hget("data", entry) or b"") == [row, None, 1]


def test_one_bad_message_is_dead_lettered_alone(make_pool: Callable[..., Pool], server: Server) -> None:
    """Of a hundred, one raises and one kills: two letters, without a setting, and 98 that ran once."""
    pool = make_pool("""
        def handle(message):
            started(message)
            if message.data["n"] == 50:
                raise ValueError("never")
            if message.data["n"] == 70:
                segfault()
            finished(message)
        """)
    ids = push(server, numbers(100))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[50]: 3, ids[70]: 3})
    assert [pool.dead()[ids[n]].reason for n in (50, 70)] == ["max_attempts", "crash: SIGSEGV"]


def test_a_pool_and_its_consumer_split_the_work(make_pool: Callable[..., Pool], server: Server) -> None:
    """Each entry is handled once, by one of them: nothing is taken from the other while it lives."""
    pool = make_pool(HANDLER)
    ids = push(server, numbers(1))
    pool.start()
    pool.wait_started(ids[0])
    ids += push(server, numbers(200)[1:])
    theirs: list[str] = []

    async def handle(messages: list[Any]) -> list[str]:
        theirs.extend(message.id for message in messages)
        return theirs[-len(messages) :]

    consume(server, handle, batch_size=50)
    assert len(theirs) == 50
    pool.release("go")
    until(lambda: len(pool.finished()) == 150, "the pool's part")
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.started() == pool.finished() == dict.fromkeys(set(ids) - set(theirs), 1)
    assert pool.counters()["HANDLED"] == 150


def test_its_consumer_cannot_rob_a_slow_handler(make_pool: Callable[..., Pool], server: Server) -> None:
    """It takes what has been idle for longer than a pool lets it be: two thirds of the lease."""
    if server.version < (7,):
        pytest.skip("before Redis 7 it cannot take anything over")
    pool = make_pool(HANDLER, "--lease", "1")
    ids = push(server, numbers(1))
    pool.start()
    pool.wait_started(ids[0])
    theirs: list[str] = []

    async def handle(messages: list[Any]) -> list[str]:
        theirs.extend(message.id for message in messages)
        return theirs[-len(messages) :]

    begin = time.monotonic()
    while time.monotonic() - begin < 6:
        consume(server, handle, passes=5, min_idle_claim_ms=4000)
    pool.release("go")
    pool.wait_settled()
    assert pool.stop() == 0
    assert theirs == []
    pool.assert_exact(ids)


@pytest.mark.parametrize("block_ms", ["100", "600000"])
def test_what_its_dead_consumer_left_is_taken_over(
    make_pool: Callable[..., Pool], server: Server, block_ms: str
) -> None:
    """All of it, in batches no larger than allowed, with the deliveries counted; then it is removed.

    Whoever waits in a read for new entries starts at once.
    """
    ids = push(server, numbers(300)[1:])

    async def die(messages: list[Any]) -> list[str]:
        return []

    consume(server, die, passes=3, batch_size=100)
    options = ("--lease", "1", "--consumer-ttl", "1", "--batch-max", "20", "--block-ms", block_ms)
    pool = make_pool(HANDLER, *options)
    pool.start()
    pool.wait_finished(ids)
    pool.wait_settled()
    until(lambda: pool.consumers().keys() == {"test:0"}, "the removal of their consumer")
    assert pool.stop() == 0
    assert pool.started() == pool.finished() == dict.fromkeys(ids, 1)
    assert pool.hash("attempts") == dict.fromkeys(ids, 2)
    assert (pool.counters()["HANDLED"], pool.dead()) == (len(ids), {})
    assert pool.largest_batch() <= 20


def test_our_producer_keeps_what_nobody_has_read(server: Server) -> None:
    with Producer(server.url) as producer:
        assert producer.push_many(n for n in range(150_000)) == 150_000
    assert server.client().xlen("events") == 150_000


def test_connections_are_told_apart_by_their_password(own_server: Server) -> None:
    own_server.client().config_set("requirepass", "right")
    where = f"127.0.0.1:{own_server.port}/0"
    with Producer(f"redis://:right@{where}") as good, Producer(f"redis://:wrong@{where}") as bad:
        good.push(1)
        with pytest.raises(PushError):
            bad.push(2)
        good.push(3)
    assert own_server.client(password="right").xlen("events") == 2


def test_a_pool_that_waits_for_entries_ends_when_it_is_told(make_pool: Callable[..., Pool]) -> None:
    """The read would go on for ten minutes."""
    pool = make_pool(HANDLER, "--block-ms", "600000").start()
    until(lambda: pool.desk_state().name == "IDLE", "a worker that waits")
    assert pool.stop() == 0


async def _close(client: Any) -> None:
    """Its own `close` leaves the connections of its pool open."""
    pool = (await client._get_client()).connection_pool
    await client.close()
    await pool.disconnect()


def test_its_handler_runs_as_it_is(make_pool: Callable[..., Pool], server: Server) -> None:
    """A coroutine of a list that returns the ids that are done: those alone are acknowledged."""
    pool = make_pool("""
        from rsq import adapters
        @adapters.message_list(size=40, wait=3)
        async def handle(messages):
            ledger().rpush("sizes", len(messages))
            done = []
            for m in messages:
                started(m)
                if m.data["n"] % 10 or m.attempt == 2:
                    finished(m)
                    done.append(m.id)
            return done
        """)
    ids = push(server, numbers(100))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, restarted=dict.fromkeys(ids[::10], 2))
    sizes: Any = pool.books.lrange("sizes", 0, -1)
    assert [int(size) for size in sizes][:2] == [40, 40]
    assert pool.counters()["FAILED"] == 10


def test_its_events_are_in_its_data_and_a_router_gets_them_by_its_default(
    make_pool: Callable[..., Pool], server: Server
) -> None:
    """It writes no event: what it pushed goes to the default, also beside our producer's events."""
    pool = make_pool("""
        from rsq import Router
        handle = Router()
        def note(kind, messages):
            for message in messages:
                started(message)
                ledger().hset("kind", message.id, kind)
                finished(message)
        @handle.on("order.created")
        def created(message):
            note("created", [message])
        @handle.batch("order.paid", size=10, wait=0.1)
        def paid(messages):
            note("paid", messages)
            return messages
        @handle.default
        def rest(message):
            note("rest", [message])
        """)
    theirs = push(server, [{"event": "order.created", "n": n} for n in range(20)])
    created, paid = pool.push(numbers(5), event="order.created"), pool.push(numbers(5), event="order.paid")
    assert pool.run() == 0, pool.log()
    pool.assert_exact([*theirs, *created, *paid])
    found: Any = pool.books.hgetall("kind")
    kinds = {"created": created, "paid": paid, "rest": theirs}
    assert {entry.decode(): kind.decode() for entry, kind in found.items()} == {
        entry: kind for kind, ids in kinds.items() for entry in ids
    }
