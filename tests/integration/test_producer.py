"""The producer on real servers: what it writes, and what it says when it cannot."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support_servers import Server

from rsq.streams.producer import Producer, PushError, _Counter

STREAM = "orders"


def entries(server: Server) -> list[tuple[bytes, list[bytes]]]:
    """The entries of the stream as the server has them."""
    client: Any = server.client()
    client.set_response_callback("XRANGE", lambda reply, **_: reply)
    found: list[tuple[bytes, list[bytes]]] = client.execute_command("XRANGE", STREAM, "-", "+")
    return found


def fields(server: Server) -> list[list[bytes]]:
    return [flat for _, flat in entries(server)]


@pytest.fixture
def producer(server: Server) -> Iterator[Producer]:
    with Producer(server.url, STREAM) as made:
        yield made


def test_a_message_is_its_data_and_then_its_event(server: Server, producer: Producer) -> None:
    ids = [producer.push({"a": 1}), producer.push([], event="order.créé")]
    assert fields(server) == [[b"data", b'{"a":1}'], [b"data", b"[]", b"event", "order.créé".encode()]]
    assert [entry_id.decode() for entry_id, _ in entries(server)] == ids


def test_many_messages_keep_their_order(server: Server, producer: Producer) -> None:
    assert producer.push_many(range(1234), event="n", batch=100) == 1234
    assert fields(server) == [[b"data", b"%d" % n, b"event", b"n"] for n in range(1234)]
    assert producer.push_many([]) == 0


@pytest.mark.parametrize(
    "payload", [b"", b"\r\n$5\r\n", b"\xff\x00", b"x" * 2**20], ids=["0", "crlf", "bin", "1MiB"]
)
def test_any_bytes_are_a_payload(server: Server, payload: bytes) -> None:
    with Producer(server.url, STREAM, serializer="raw") as producer:
        producer.push(payload, "\udcff")
        producer.push_many([payload] * 9)
    assert fields(server) == [[b"data", payload, b"event", b"\xff"]] + [[b"data", payload]] * 9


def test_items_are_taken_one_batch_at_a_time(server: Server, producer: Producer) -> None:
    watch = server.client()

    def items() -> Iterator[int]:
        for number in range(25):
            assert watch.xlen(STREAM) == number // 10 * 10
            yield number

    assert producer.push_many(items(), batch=10) == 25


def test_large_items_are_sent_before_the_batch_is_full(server: Server) -> None:
    watch = server.client()

    def items() -> Iterator[bytes]:
        for _ in range(8):
            yield b"x" * 2**20
        assert watch.xlen(STREAM) == 8
        yield b""

    with Producer(server.url, STREAM, serializer="raw") as producer:
        assert producer.push_many(items()) == 9


def test_what_comes_before_a_bad_item_is_pushed(server: Server, producer: Producer) -> None:
    with pytest.raises(TypeError):
        producer.push_many([1, 2, 3, object(), 5], batch=2)
    assert fields(server) == [[b"data", b"1"], [b"data", b"2"], [b"data", b"3"]]
    assert producer.metrics.pushed == 3


def test_nothing_is_trimmed_unless_asked_for(server: Server, producer: Producer) -> None:
    producer.push_many(range(5000))
    assert server.client().xlen(STREAM) == 5000
    with Producer(server.url, STREAM, maxlen=1000) as limited:
        limited.push(0)
        limited.push_many(range(10))
    assert 1000 < server.client().xlen(STREAM) < 1200  # whole nodes only: exact trimming costs more
    with pytest.raises(ValueError, match="maxlen"):
        Producer(server.url, STREAM, maxlen=0)


def test_a_client_of_the_caller_is_used_and_stays_open(server: Server) -> None:
    client = server.client(decode_responses=True)
    mine = client.client_id()
    with Producer(client, STREAM) as producer:
        assert producer.push(1) == entries(server)[0][0].decode()
    assert client.client_id() == mine


def test_metrics_count_what_is_pushed(server: Server, producer: Producer) -> None:
    assert producer.metrics.pushed == 0
    producer.push(1)
    producer.push_many(range(10))
    found = producer.metrics
    assert found.pushed == 11
    assert found.uptime_s > 0
    assert found.rate_60s == pytest.approx(11 / found.uptime_s)
    assert found.average_per_s == pytest.approx(11 / found.uptime_s)


def test_the_rate_looks_back_a_minute() -> None:
    counter = _Counter()
    start = counter._started
    for second in range(120):
        counter.add(10, start + second)
    assert counter.metrics(start + 120).rate_60s == pytest.approx(10, rel=0.02)
    assert counter.metrics(start + 120).average_per_s == 10
    assert counter.metrics(start + 150).rate_60s == pytest.approx(5, rel=0.05)
    assert counter.metrics(start + 300).rate_60s == 0
    assert counter.metrics(start + 300).pushed == 1200
    assert counter.metrics(start).rate_60s == 0


def test_a_refusal_says_how_many_got_through(server: Server, producer: Producer) -> None:
    producer.push(1)
    server.client().delete(STREAM)
    server.client().set(STREAM, "no stream")
    with pytest.raises(PushError, match="WRONGTYPE") as caught:
        producer.push_many([1, 2, 3])
    assert (caught.value.pushed, caught.value.unsure) == (0, 0)
    server.client().delete(STREAM)
    assert producer.push_many([1, 2]) == 2
    assert producer.metrics.pushed == 3


def test_messages_in_doubt_are_counted_and_never_sent_again(own_server: Server) -> None:
    with Producer(own_server.url, STREAM, timeout_s=0.3) as producer, contextlib.ExitStack() as freezing:
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


def test_a_restart_of_the_server_between_two_pushes_is_not_noticed(own_server: Server) -> None:
    with Producer(own_server.url, STREAM) as producer:
        producer.push(1)
        own_server.kill()
        with pytest.raises(PushError) as caught:
            producer.push(2)
        assert (caught.value.pushed, caught.value.unsure) == (0, 0)
        own_server.start()
        producer.push(3)
        assert fields(own_server) == [[b"data", b"1"], [b"data", b"3"]]


def test_a_forked_child_has_a_connection_of_its_own(server: Server, producer: Producer) -> None:
    producer.push("parent")
    report, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            producer.push_many(["child"] * 300, batch=7)
            os.write(told, json.dumps(producer.metrics.pushed).encode())
        finally:
            os._exit(0)
    os.close(told)
    producer.push_many(["parent"] * 300, batch=7)
    with os.fdopen(report, "rb") as pipe:
        assert json.loads(pipe.read()) == 300
    os.waitpid(pid, 0)
    data = [flat[1] for flat in fields(server)]
    assert (data.count(b'"child"'), data.count(b'"parent"')) == (300, 301)
    assert producer.metrics.pushed == 301
    assert producer.push("parent")


def test_threads_may_share_it(server: Server, producer: Producer) -> None:
    threads = [threading.Thread(target=producer.push_many, args=([n] * 500, None, 7)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = [flat[1] for flat in fields(server)]
    assert all(data.count(b"%d" % n) == 500 for n in range(8))
    assert producer.metrics.pushed == 4000
