"""redis-streams 0.3.0: its producer writes, a pool reads; its consumer and a pool share one group."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from redis_streams.consumer import Consumer as TheirConsumer
from redis_streams.producer import Producer as TheirProducer
from support_pool import Pool, numbers, until
from support_servers import Server

from rsq.streams.producer import Producer

HANDLER = """
    def handle(message):
        started(message)
        ledger().hset("consumer", message.id, os.getpid())
        if message.fields.get(b"wait"):
            wait_for("go")
        finished(message)
    """


def client(server: Server) -> Any:
    return server.client(decode_responses=True)


@pytest.mark.parametrize("options", [(), ("--envelope", "fields")])
def test_what_it_writes_is_read(
    make_pool: Callable[..., Pool], server: Server, options: tuple[str, ...]
) -> None:
    pool = make_pool(
        """
        import json
        def handle(message):
            started(message)
            ledger().hset("data", message.id, json.dumps(message.data))
            finished(message)
        """,
        *options,
    )
    producer = TheirProducer(client(server), "events")
    rows: list[dict[str, Any]] = [
        {"user": "Zoë", "age": 7, "ratio": 1.5},
        {"raw": b"\xff"},
        {"message": "hello"},
    ]
    ids = [producer.add(row) for row in rows]
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    read = [json.loads(pool.books.hget("data", entry) or b"") for entry in ids]
    assert read == [{"user": "Zoë", "age": "7", "ratio": "1.5"}, {"raw": "\\xff"}, {"message": "hello"}]


def test_a_field_data_is_a_payload_unless_fields_are_asked_for(
    make_pool: Callable[..., Pool], server: Server
) -> None:
    """As the adapters of many users write it, and as others mean it."""
    pool = make_pool("""
        import json
        def handle(message):
            started(message)
            ledger().rpush("data", json.dumps(message.data))
            finished(message)
        """)
    row: dict[str, Any] = {"data": json.dumps({"n": 1}), "kind": "b"}
    ids = [TheirProducer(client(server), "events").add(row)]
    assert pool.run() == 0, pool.log()
    ids.append(TheirProducer(client(server), "events").add(row))
    assert pool.run("--envelope", "fields") == 0, pool.log()
    pool.assert_exact(ids)
    read: Any = pool.books.lrange("data", 0, -1)
    assert [json.loads(data) for data in read] == [{"n": 1}, row]


def test_a_pool_and_its_consumer_split_the_work(make_pool: Callable[..., Pool], server: Server) -> None:
    """Each entry is handled once, by one of them."""
    pool = make_pool(HANDLER)
    producer = TheirProducer(client(server), "events")
    ids = [producer.add({"wait": 1})]
    pool.start()
    pool.wait_started(ids[0])
    ids += [producer.add({"n": n}) for n in range(100)]
    consumer = TheirConsumer(client(server), "events", "workers", "theirs", batch_size=40, poll_time_ms=10)
    theirs = [item.msgid for item in consumer.get_items()]
    assert len(theirs) == 40
    for entry in theirs:
        consumer.remove_item_from_consumer_group(entry)
    pool.release("go")
    until(lambda: len(pool.finished()) == 61, "the pool's part")
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.started() == pool.finished() == dict.fromkeys(set(ids) - set(theirs), 1)


def test_no_two_workers_are_one_consumer(make_pool: Callable[..., Pool]) -> None:
    """Four forks of one process that has imported the handler, four names, each entry once."""
    pool = make_pool(HANDLER, "--workers", "4", "--batch-max", "5")
    pool.start()
    ids = pool.push(numbers(400))
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.consumers().keys() == {f"test:{slot}" for slot in range(4)}
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_one_entry_does_not_wait_for_a_batch(make_pool: Callable[..., Pool]) -> None:
    """It is handled although neither the batch is full nor the ten minutes are over."""
    pool = make_pool(HANDLER, "--batch-max", "500", "--block-ms", "600000").start()
    ids = pool.push(numbers(1))
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_acknowledgements_go_out_together(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool("def handle(message): pass", "--batch-max", "500")
    pool.push(numbers(5000))
    assert pool.run() == 0, pool.log()
    counted = pool.counters()
    assert counted["HANDLED"] == 5000
    assert counted["COMMANDS"] < 500


@pytest.mark.parametrize("decoded", [False, True])
def test_a_client_that_decodes_makes_no_difference(
    make_pool: Callable[..., Pool], server: Server, decoded: bool
) -> None:
    pool = make_pool("""
        def handle(message):
            started(message)
            assert message.data == ["Zoë"] and message.event == "naïve"
            finished(message)
        """)
    with Producer(server.client(decode_responses=decoded)) as producer:
        ids = [producer.push(["Zoë"], event="naïve")]
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)


def test_what_always_fails_ends_in_the_dead_letters(make_pool: Callable[..., Pool], server: Server) -> None:
    pool = make_pool("""
        def handle(message):
            started(message)
            if message.data["n"] == "7":
                raise ValueError("never")
            finished(message)
        """)
    producer = TheirProducer(client(server), "events")
    ids = [producer.add({"n": n}) for n in range(20)]
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[7]: 3})
    assert pool.dead()[ids[7]].fields == ((b"n", b"7"),)


def test_a_field_event_says_who_handles_it(make_pool: Callable[..., Pool], server: Server) -> None:
    """Its entries are plain fields; those of an event that nobody handles may become dead letters."""
    pool = make_pool(
        """
        from rsq import Router, adapters
        handle = Router()
        @handle.on("created", max_attempts=1)
        def created(message):
            started(message)
            if message.data["n"] == "7":
                raise ValueError("never")
            finished(message)
        @handle.on("paid")
        @adapters.data_and_message
        async def paid(data, message):
            started(message)
            assert data == {"event": "paid", "n": data["n"]}
            finished(message)
        """,
        "--unknown-event",
        "dead-letter",
    )
    producer = TheirProducer(client(server), "events")
    names = ["created", "paid", "created", "lost"]
    ids = [producer.add({"event": names[n % 4], "n": n}) for n in range(5)]
    ids += [producer.add({"event": "created", "n": 7}), producer.add({"n": 8})]
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[3]: 0, ids[5]: 1, ids[6]: 0})
    reasons = [pool.dead()[ids[at]].reason for at in (3, 5, 6)]
    assert reasons == ["unknown_event", "max_attempts", "unknown_event"]


def test_batches_are_full_or_go_out_in_time(make_pool: Callable[..., Pool], server: Server) -> None:
    """What its `get_items` gathers: so many, or what has come; done one by one, the rest is tried again."""
    pool = make_pool("""
        from rsq import Router
        handle = Router()
        @handle.batch("row", size=10, wait=3)
        def rows(messages):
            ledger().rpush("sizes", len(messages))
            for message in messages:
                started(message)
                if message.data["n"] == "13" and message.attempt == 1:
                    raise ValueError("after three of ten")
                finished(message)
                message.done()
        """)
    producer = TheirProducer(client(server), "events")
    ids = [producer.add({"event": "row", "n": n}) for n in range(25)]
    assert pool.run() == 0, pool.log()
    assert (pool.dead(), pool.finished()) == ({}, dict.fromkeys(ids, 1))
    assert pool.started() == dict.fromkeys(ids, 1) | {ids[13]: 2}
    sizes: Any = pool.books.lrange("sizes", 0, -1)
    assert [int(size) for size in sizes][:2] == [10, 10]
    assert pool.counters()["HANDLED"] == 25
