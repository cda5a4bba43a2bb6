"""Messages that are the only one of their key, for a while."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from support_pool import until
from support_producers import FACES, AnyProducer, Make
from support_servers import Server

from rsq import Duplicate, PushError, StreamFull
from rsq.streams import keys
from rsq.streams.producer import Producer

STREAM = "orders"


@pytest.fixture(params=FACES[:2], ids=lambda face: face.__name__)
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


@pytest.fixture
def producer(server: Server, make: Make) -> Any:
    with make(server.url, STREAM) as made:
        yield made


def test_a_second_push_of_a_key_adds_nothing(server: Server, producer: AnyProducer) -> None:
    client: Any = server.client()
    first = producer.push({"a": 1}, "paid", key="order-7", unique="1h")
    assert producer.push({"a": 2}, key="order-7", unique=timedelta(hours=1)) == first
    with pytest.raises(Duplicate) as caught:
        producer.push({"a": 3}, key="order-7", unique=3600, refuse=True)
    assert isinstance(caught.value, PushError)
    assert (caught.value.id, caught.value.key, caught.value.pushed) == (first, "order-7", 0)
    assert first in str(caught.value)
    ((entry_id, found),) = client.xrange(STREAM)
    assert (entry_id.decode(), found[b"data"], found[b"key"]) == (first, b'{"a":1}', b"order-7")
    assert (producer.metrics.pushed, producer.metrics.duplicates) == (1, 2)
    assert 3_590_000 < client.pttl(keys.unique(STREAM, "order-7")) <= 3_600_000


def test_others_are_not_concerned(server: Server, make: Make, producer: AnyProducer) -> None:
    producer.push(1, key="order-7", unique="1h")
    producer.push(2, key="order-8", unique="1h")
    producer.push(3, key="order-7")  # who does not ask does not care
    with make(server.url, "mails") as other:
        other.push(4, key="order-7", unique="1h")
    assert [server.client().xlen(name) for name in (STREAM, "mails")] == [3, 1]


def test_after_its_time_a_key_may_come_again(server: Server, producer: AnyProducer) -> None:
    client: Any = server.client()
    first = producer.push(1, key="order-7", unique="50ms")
    until(lambda: not client.exists(keys.unique(STREAM, "order-7")), "the end of the time")
    assert producer.push(2, key="order-7", unique="1h") != first
    assert client.xlen(STREAM) == 2


def test_many_at_once_add_one(server: Server) -> None:
    def push(number: int) -> None:
        with Producer(server.url, STREAM) as producer:
            ids.append(producer.push(number, key="order-7", unique="1h"))

    ids: list[str] = []
    threads = [threading.Thread(target=push, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == server.client().xlen(STREAM) == 1


def test_a_full_stream_remembers_no_key(server: Server, make: Make) -> None:
    client: Any = server.client()
    with make(server.url, STREAM, maxlen=1, on_full="reject") as producer:
        first = producer.push(1, key="order-7", unique="1h")
        assert producer.push(1, key="order-7", unique="1h") == first  # full, but there is nothing to add
        with pytest.raises(StreamFull):
            producer.push(2, key="order-8", unique="1h")
        client.xtrim(STREAM, maxlen=0, approximate=False)
        second = producer.push(2, key="order-8", unique="1h")
    assert [row[0].decode() for row in client.xrange(STREAM)] == [second]


def test_unique_needs_a_key_and_a_time(producer: AnyProducer) -> None:
    with pytest.raises(ValueError, match="needs a key"):
        producer.push(1, unique="1h")
    for wrong in ("1 fortnight", "0s", "", -1, float("nan")):
        with pytest.raises(ValueError, match="duration"):
            producer.push(1, key="k", unique=wrong)
    assert producer.metrics.pushed == 0


def test_any_text_is_a_key(server: Server, producer: AnyProducer) -> None:
    names = ["", "{a}", "a:b", "order}x", "ö\udcff", "\0\r\n$"]
    ids = [producer.push(n, key=name, unique="1h") for n, name in enumerate(names)]
    assert [producer.push(n, key=name, unique="1h") for n, name in enumerate(names)] == ids
    assert len(set(ids)) == len(names)


@pytest.mark.parametrize("stream", ["orders", "{shop}:orders", "a:{b}"])
@pytest.mark.parametrize("key", ["k", "{other}", "orders:k"])
def test_all_keys_share_the_slot_of_the_stream(stream: str, key: str) -> None:
    for name in (keys.unique(stream, key), keys.sent(stream, "abc.0")):
        assert keys.same_slot(stream, name)


def test_no_stream_reads_the_keys_of_another() -> None:
    assert keys.unique("{shop}", "orders:k") != keys.unique("{shop}:orders", "k")
