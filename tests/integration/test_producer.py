"""The producer on real servers: what it writes, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis import asyncio as aio
from support_producers import FACES, AnyProducer, Make
from support_servers import Server

from rsq import AsyncProducer, producer_metrics
from rsq.streams.meter import Meter
from rsq.streams.producer import Producer, PushError

STREAM = "orders"


def entries(server: Server) -> list[tuple[bytes, list[bytes]]]:
    """The entries of the stream as the server has them."""
    client: Any = server.client()
    client.set_response_callback("XRANGE", lambda reply, **_: reply)
    found: list[tuple[bytes, list[bytes]]] = client.execute_command("XRANGE", STREAM, "-", "+")
    return found


def fields(server: Server) -> list[list[bytes]]:
    return [flat for _, flat in entries(server)]


@pytest.fixture(params=FACES, ids=lambda face: face.__name__)
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


@pytest.fixture
def producer(server: Server, make: Make) -> Iterator[AnyProducer]:
    with make(server.url, STREAM) as made:
        yield made


@pytest.fixture(params=[{}, {"maxlen": 100_000, "on_full": "reject"}], ids=["pipeline", "script"])
def sync(server: Server, request: pytest.FixtureRequest) -> Iterator[Producer]:
    with Producer(server.url, STREAM, **request.param) as made:
        yield made


def test_a_message_is_its_data_and_then_its_event(server: Server, producer: AnyProducer) -> None:
    ids = [producer.push({"a": 1}), producer.push([], event="order.créé")]
    assert fields(server) == [[b"data", b'{"a":1}'], [b"data", b"[]", b"event", "order.créé".encode()]]
    assert [entry_id.decode() for entry_id, _ in entries(server)] == ids


def test_many_messages_keep_their_order(server: Server, producer: AnyProducer) -> None:
    assert producer.push_many(range(1234), event="n", batch=100) == 1234
    assert fields(server) == [[b"data", b"%d" % n, b"event", b"n"] for n in range(1234)]
    assert producer.push_many([]) == 0


@pytest.mark.parametrize(
    "payload", [b"", b"\r\n$5\r\n", b"\xff\x00", b"x" * 2**20], ids=["0", "crlf", "bin", "1MiB"]
)
def test_any_bytes_are_a_payload(server: Server, make: Make, payload: bytes) -> None:
    with make(server.url, STREAM, serializer="raw") as producer:
        producer.push(payload, "\udcff")
        producer.push_many([payload] * 9)
    assert fields(server) == [[b"data", payload, b"event", b"\xff"]] + [[b"data", payload]] * 9


def test_items_are_taken_one_batch_at_a_time(server: Server, producer: AnyProducer) -> None:
    watch = server.client()

    def items() -> Iterator[int]:
        for number in range(25):
            assert watch.xlen(STREAM) == number // 10 * 10
            yield number

    assert producer.push_many(items(), batch=10) == 25


def test_large_items_are_sent_before_the_batch_is_full(server: Server, make: Make) -> None:
    watch = server.client()

    def items() -> Iterator[bytes]:
        for _ in range(8):
            yield b"x" * 2**20
        assert watch.xlen(STREAM) == 8
        yield b""

    with make(server.url, STREAM, serializer="raw") as producer:
        assert producer.push_many(items()) == 9


def test_what_comes_before_a_bad_item_is_pushed(server: Server, producer: AnyProducer) -> None:
    with pytest.raises(TypeError):
        producer.push_many([1, 2, 3, object(), 5], batch=2)
    assert fields(server) == [[b"data", b"1"], [b"data", b"2"], [b"data", b"3"]]
    assert producer.metrics.pushed == 3


def test_nothing_is_trimmed_unless_asked_for(server: Server, producer: AnyProducer, make: Make) -> None:
    producer.push_many(range(5000))
    assert server.client().xlen(STREAM) == 5000
    with make(server.url, STREAM, maxlen=1000) as limited:
        limited.push(0)
        limited.push_many(range(10))
    assert 1000 < server.client().xlen(STREAM) < 1200  # whole nodes only: exact trimming costs more
    with make(server.url, STREAM, maxlen=10, exact=True) as exact:
        exact.push(0)
        assert server.client().xlen(STREAM) == 10
        exact.push_many(range(100))
        exact.push(0, unique="1h", key="k")
    assert server.client().xlen(STREAM) == 10


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"maxlen": 0}, "maxlen must be at least 1"),
        ({"on_full": "block"}, "needs maxlen"),
        ({"maxlen": 5, "on_full": "drop"}, "on_full is trim, reject or block"),
        ({"exact": True}, "needs maxlen"),
        ({"maxlen": 5, "on_full": "reject", "exact": True}, "exact is a way to trim"),
        ({"block": "soon"}, "no duration"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    server: Server, make: Make, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        make(server.url, STREAM, **settings)


def test_a_message_may_have_a_key_and_a_trace(server: Server, producer: AnyProducer) -> None:
    producer.push(1, "paid", key="order-7", traceparent="00-1-2-01")
    producer.push_many([2, 3], key=lambda item: f"order-{item}", traceparent="00-1-2-01", event="paid")
    trace = [b"traceparent", b"00-1-2-01"]
    assert fields(server) == [
        [b"data", b"%d" % n, b"key", b"order-%d" % key, b"event", b"paid", *trace]
        for n, key in ((1, 7), (2, 2), (3, 3))
    ]


def test_a_prefix_goes_before_the_stream(server: Server, make: Make) -> None:
    with make(server.url, "ders", prefix="or") as producer:
        producer.push(1)
        assert producer.stream == STREAM
    assert fields(server) == [[b"data", b"1"]]


def test_a_group_is_made_once(server: Server, producer: AnyProducer) -> None:
    assert producer.ensure_group("workers")
    assert not producer.ensure_group("workers")
    producer.push(1)
    assert producer.ensure_group("late", "$")
    groups: Any = server.client().xinfo_groups(STREAM)
    assert [(row["name"], row["last-delivered-id"]) for row in groups] == [
        (b"late", entries(server)[0][0]),
        (b"workers", b"0-0"),
    ]
    server.client().set("text", "no stream")
    with (
        Producer(server.url, "text") as wrong,
        pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"),
    ):
        wrong.ensure_group("workers")


def test_both_producers_have_one_face() -> None:
    """The same methods with the same arguments, but for what may be iterated, and who awaits."""
    for name in ("__init__", "push", "push_many", "ensure_group", "close"):
        one, other = (inspect.signature(getattr(kind, name)) for kind in (Producer, AsyncProducer))
        assert list(one.parameters) == list(other.parameters)
        for left, right in zip(one.parameters.values(), other.parameters.values(), strict=True):
            assert (left.default, left.kind) == (right.default, right.kind)


def test_an_asyncio_client_of_the_caller_is_used_and_stays_open(server: Server) -> None:
    async def scenario() -> None:
        client = aio.Redis.from_url(server.url)
        mine = await client.client_id()
        async with AsyncProducer(client, STREAM) as producer:
            assert await producer.push(1) == entries(server)[0][0].decode()
        assert await client.client_id() == mine
        await client.aclose()

    asyncio.run(scenario())


def test_tasks_may_share_it_and_need_few_connections(server: Server) -> None:
    async def scenario() -> None:
        async with AsyncProducer(server.url, STREAM) as producer:
            await asyncio.gather(*(producer.push(n) for n in range(300)))
            clients: Any = server.client().client_list()
            assert sum(one["name"] == "rsq-producer" for one in clients) <= 8

    asyncio.run(scenario())
    assert sorted(int(flat[1]) for flat in fields(server)) == list(range(300))


def test_a_push_that_is_cancelled_leaves_nobody_with_its_answer(own_server: Server) -> None:
    async def scenario() -> None:
        async with AsyncProducer(own_server.url, STREAM) as producer:
            await producer.push(0)
            with own_server.frozen():
                task = asyncio.create_task(producer.push(1))
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(task, 0.2)
            ids = [await producer.push(n) for n in (2, 3)]
        found = {flat[1]: entry_id.decode() for entry_id, flat in entries(own_server)}
        assert ids == [found[b"2"], found[b"3"]]

    asyncio.run(scenario())


def test_a_client_of_the_caller_is_used_and_stays_open(server: Server) -> None:
    client = server.client(decode_responses=True)
    mine = client.client_id()
    with Producer(client, STREAM) as producer:
        assert producer.push(1) == entries(server)[0][0].decode()
    assert client.client_id() == mine


def test_metrics_of_the_process_are_those_of_all_producers(server: Server, make: Make) -> None:
    before = producer_metrics().pushed
    for count in (3, 4):
        with make(server.url, STREAM) as producer:
            producer.push_many(range(count))
            assert producer.metrics.pushed == count
    assert producer_metrics().pushed - before == 7
    assert producer_metrics().rate_60s > 0


def test_metrics_count_what_is_pushed(server: Server, producer: AnyProducer) -> None:
    assert producer.metrics.pushed == 0
    producer.push(1)
    producer.push_many(range(10))
    found = producer.metrics
    assert found.pushed == 11
    assert found.uptime_s > 0
    assert found.rate_60s == pytest.approx(11 / found.uptime_s)
    assert found.average_per_s == pytest.approx(11 / found.uptime_s)


def test_the_rate_looks_back_a_minute() -> None:
    counter = Meter()
    start = counter._started
    for second in range(120):
        counter.add(10, start + second)
    assert counter.metrics(start + 120).rate_60s == pytest.approx(10, rel=0.02)
    assert counter.metrics(start + 120).average_per_s == pytest.approx(10)
    assert counter.metrics(start + 150).rate_60s == pytest.approx(5, rel=0.05)
    assert counter.metrics(start + 300).rate_60s == 0
    assert counter.metrics(start + 300).pushed == 1200
    assert counter.metrics(start).rate_60s == 0


def test_a_refusal_says_how_many_got_through(server: Server, producer: AnyProducer) -> None:
    producer.push(1)
    server.client().delete(STREAM)
    server.client().set(STREAM, "no stream")
    with pytest.raises(PushError, match="WRONGTYPE") as caught:
        producer.push_many([1, 2, 3])
    assert (caught.value.pushed, caught.value.unsure) == (0, 0)
    server.client().delete(STREAM)
    assert producer.push_many([1, 2]) == 2
    assert producer.metrics.pushed == 3


def test_messages_in_doubt_are_counted_and_never_sent_again(own_server: Server, make: Make) -> None:
    with make(own_server.url, STREAM, timeout_s=3.0) as producer, contextlib.ExitStack() as freezing:
        producer.push_many(range(4))

        def items() -> Iterator[int]:
            yield from (4, 5)
            freezing.enter_context(own_server.frozen())
            yield from (6, 7)
            pytest.fail("a frozen server has confirmed a batch")

        with pytest.raises(PushError) as caught:
            producer.push_many(items(), batch=2)
        assert (caught.value.pushed, caught.value.unsure) == (2, 2)
        assert "2 messages were pushed, 2 more were sent but not confirmed" in str(caught.value)
        assert producer.metrics.pushed == 6
        freezing.close()
        assert [flat[1] for flat in fields(own_server)] == [b"%d" % n for n in range(8)]


def test_a_restart_of_the_server_between_two_pushes_is_not_noticed(own_server: Server, make: Make) -> None:
    with make(own_server.url, STREAM) as producer:
        producer.push(1)
        own_server.kill()
        with pytest.raises(PushError) as caught:
            producer.push(2)
        assert (caught.value.pushed, caught.value.unsure) == (0, 0)
        own_server.start()
        producer.push(3)
        assert fields(own_server) == [[b"data", b"1"], [b"data", b"3"]]


def test_a_forked_child_has_a_connection_of_its_own(server: Server, sync: Producer) -> None:
    sync.push("parent")
    report, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            sync.push_many(["child"] * 300, batch=7)
            os.write(told, json.dumps(sync.metrics.pushed).encode())
        finally:
            os._exit(0)
    os.close(told)
    sync.push_many(["parent"] * 300, batch=7)
    with os.fdopen(report, "rb") as pipe:
        assert json.loads(pipe.read()) == 300
    os.waitpid(pid, 0)
    data = [flat[1] for flat in fields(server)]
    assert (data.count(b'"child"'), data.count(b'"parent"')) == (300, 301)
    assert sync.metrics.pushed == 301
    assert sync.push("parent")


def test_threads_may_share_it(server: Server, sync: Producer) -> None:
    threads = [threading.Thread(target=sync.push_many, args=([n] * 500, None, 7)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = [flat[1] for flat in fields(server)]
    assert all(data.count(b"%d" % n) == 500 for n in range(8))
    assert sync.metrics.pushed == 4000
