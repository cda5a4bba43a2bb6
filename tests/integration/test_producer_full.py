"""What a producer does at the limit of its stream: by unread entries of the slowest group."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support_pool import until
from support_producers import FACES, Make
from support_servers import Server

from rsq import PushError, StreamFull
from rsq.streams import frames, keys
from rsq.streams.frames import Frame
from rsq.streams.lanes import Lane
from rsq.streams.producer import Producer

STREAM = "orders"


@pytest.fixture(params=FACES, ids=lambda face: face.__name__)
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


@pytest.fixture
def client(server: Server) -> Any:
    return server.client()


def read(client: Any, group: str, count: int) -> None:
    assert len(client.xreadgroup(group, "c", {STREAM: ">"}, count=count)[0][1]) == count


def test_a_full_stream_refuses_what_does_not_fit(client: Any, server: Server, make: Make) -> None:
    with make(server.url, STREAM, maxlen=10, on_full="reject") as producer:
        producer.ensure_group("workers")
        producer.push_many(range(6))
        with pytest.raises(StreamFull) as caught:
            producer.push_many(range(6, 20), batch=3)
        error = caught.value
        assert isinstance(error, PushError)
        assert (error.stream, error.group, error.unread, error.limit) == (STREAM, "workers", 10, 10)
        assert (error.pushed, error.unsure) == (4, 0)
        assert "orders is full: group workers has 10 entries unread, at most 10 are allowed" in str(error)
        with pytest.raises(StreamFull):
            producer.push(99)
        assert [int(row[1][b"data"]) for row in client.xrange(STREAM)] == list(range(10))
        read(client, "workers", 3)
        assert producer.push_many([10, 11, 12]) == 3
        assert (producer.metrics.pushed, producer.metrics.rejected) == (13, 3)
    assert client.xlen(STREAM) == 13  # nothing is trimmed


def test_the_slowest_group_counts_and_is_named(client: Any, server: Server, make: Make) -> None:
    with make(server.url, STREAM, maxlen=5, on_full="reject") as producer:
        for group in ("fast", "slow", "dead"):
            producer.ensure_group(group)
        producer.push_many(range(5))
        read(client, "fast", 5)
        read(client, "slow", 2)
        with pytest.raises(StreamFull, match="group dead has 5"):
            producer.push(5)
        client.xgroup_destroy(STREAM, "dead")
        with pytest.raises(StreamFull, match="group slow has 5") as caught:
            producer.push_many(range(5, 9))
        assert caught.value.pushed == 2


def test_without_a_group_every_entry_is_unread(client: Any, server: Server, make: Make) -> None:
    with make(server.url, STREAM, maxlen=3, on_full="reject") as producer:
        with pytest.raises(StreamFull, match="no group, so all of it counts: 3") as caught:
            producer.push_many(range(7))
        assert (caught.value.pushed, caught.value.group) == (3, "")
    assert client.xlen(STREAM) == 3


def test_what_the_server_does_not_know_is_counted(client: Any, server: Server, make: Make) -> None:
    """The lag is unknown before 7.0, after XDEL, and for a group that began in the middle."""
    ids = [client.xadd(STREAM, {"data": n}) for n in range(60)]
    client.xgroup_create(STREAM, "workers", ids[9])
    client.xdel(STREAM, ids[30])
    with make(server.url, STREAM, maxlen=52, on_full="reject") as producer:
        assert producer.push_many([60, 61, 62]) == 3  # 49 were unread
        with pytest.raises(StreamFull, match="has 52"):
            producer.push(63)


@pytest.mark.parametrize("serial", range(3))
def test_many_producers_never_pass_the_limit(client: Any, server: Server, serial: int) -> None:
    def push(number: int) -> None:
        with Producer(server.url, STREAM, maxlen=100, on_full="reject") as producer:
            try:
                producer.push_many([number] * 50, batch=1 + number)
            except StreamFull as full:
                pushed.append(full.pushed)
            else:
                pushed.append(50)

    pushed: list[int] = []
    client.xgroup_create(STREAM, "workers", "0", mkstream=True)
    threads = [threading.Thread(target=push, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(pushed) == client.xlen(STREAM) == 100


def test_a_full_stream_is_waited_for(client: Any, server: Server, make: Make) -> None:
    """Messages go in as somebody reads, in order, and never more than there is room for."""

    def consume() -> None:
        for _ in range(10):
            until(lambda: client.xlen(STREAM) - len(seen) == 4, "a full stream")
            rows = client.xreadgroup("workers", "c", {STREAM: ">"}, count=2)[0][1]
            seen.extend(int(row[1][b"data"]) for row in rows)

    seen: list[int] = []
    client.xgroup_create(STREAM, "workers", "0", mkstream=True)
    consumer = threading.Thread(target=consume)
    consumer.start()
    with make(server.url, STREAM, maxlen=4, on_full="block") as producer:
        assert producer.push_many(range(24), batch=7) == 24
        assert producer.metrics.pushed == 24
    consumer.join()
    assert seen == list(range(20))


def test_waiting_for_room_has_an_end(client: Any, server: Server, make: Make) -> None:
    with make(server.url, STREAM, maxlen=2, on_full="block", block="100ms") as producer:
        with pytest.raises(StreamFull) as caught:
            producer.push_many(range(5))
        assert caught.value.pushed == 2
        client.delete(STREAM)
        assert producer.push_many([5, 6]) == 2


def test_the_memory_of_what_was_sent_goes_away(client: Any, server: Server) -> None:
    """One key a producer, however much it pushes, and with a time to live."""
    with Producer(server.url, STREAM, maxlen=1000, on_full="reject") as producer:
        producer.push_many(range(500), batch=10)
    (key,) = (key for key in client.keys("*") if key != STREAM.encode())
    assert 0 < client.pttl(key) <= 600_000
    assert key.startswith(b"rsq.push:6:{orders}:sent:")


def test_a_call_that_comes_after_its_successor_does_nothing(client: Any, server: Server) -> None:
    """The network may deliver a first attempt when the producer has long gone on."""
    frame, names = Frame(), [STREAM, keys.sent(STREAM, "t.0")]
    pool = client.connection_pool

    def call(number: int, payload: bytes) -> Any:
        link = pool.get_connection()
        try:
            lane, piece = Lane("t", 0, number), frame.piece(payload)
            link.send_packed_command([frames.script(names, lane, b"unread", 10, 0, frame, [piece])])
            return link.read_response()
        finally:
            pool.release(link)

    first, second = call(1, b"1"), call(2, b"2")
    assert call(2, b"2") == second
    assert call(1, b"1") == [b"late"]
    assert [row[0] for row in client.xrange(STREAM)] == [first[3], second[3]]
