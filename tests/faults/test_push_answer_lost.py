"""A push arrives, its answer does not: whether it can be sent again depends on what the server remembers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from fakeredis import TcpFakeServer
from support_pool import until
from support_producers import FACES, Make
from support_proxy import Proxy
from support_servers import Server

from rsq import PushError
from rsq.streams.producer import Producer
from rsq.streams.steps import Heard, Talk

pytestmark = pytest.mark.every_server

STREAM = "orders"


@pytest.fixture(params=FACES[:2], ids=lambda face: face.__name__)
def make(request: pytest.FixtureRequest) -> Make:
    made: Make = request.param
    return made


@contextlib.contextmanager
def healing(proxy: Proxy, arrived: Callable[[], bool]) -> Iterator[None]:
    """Inside, answers are lost, until what was sent has arrived; then the line breaks."""
    assert not proxy.lost

    def heal() -> None:
        until(arrived, "what was pushed")
        until(
            lambda: proxy.lost, "its answer"
        )  # which may come to the proxy later; after it none is passed on
        proxy.heal()
        proxy.cut()

    proxy.drop("to_client")
    healer = threading.Thread(target=heal)
    healer.start()
    try:
        yield
    finally:
        healer.join()


def data(client: Any) -> list[int]:
    return [int(row[1][b"data"]) for row in client.xrange(STREAM)]


def test_a_script_is_sent_again_and_done_once(own_server: Server, proxy: Proxy, make: Make) -> None:
    client: Any = own_server.client()
    with make(proxy.url, STREAM, maxlen=20, on_full="reject") as producer:
        producer.push_many(range(10))
        with healing(proxy, lambda: client.xlen(STREAM) == 20):
            assert producer.push_many(range(10, 20)) == 10  # to the last place that there is
        assert data(client) == list(range(20))
        assert (producer.metrics.pushed, producer.metrics.resent) == (20, 1)


def test_the_only_one_of_its_key_is_no_duplicate_of_itself(
    own_server: Server, proxy: Proxy, make: Make
) -> None:
    client: Any = own_server.client()
    with make(proxy.url, STREAM) as producer:
        producer.push(0)
        with healing(proxy, lambda: client.xlen(STREAM) == 2):
            pushed = producer.push(1, key="order-7", unique="1h", refuse=True)
        assert client.xrange(STREAM)[1][0].decode() == pushed
        assert (producer.metrics.pushed, producer.metrics.duplicates) == (2, 0)


def test_a_server_that_remembers_nothing_leaves_doubt(own_server: Server, proxy: Proxy, make: Make) -> None:
    client: Any = own_server.client()
    with make(proxy.url, STREAM) as producer:
        producer.push_many(range(10), batch=5)  # after the first batch it knows what the server remembers
        with healing(proxy, lambda: client.xlen(STREAM) == 20), pytest.raises(PushError) as caught:
            producer.push_many(range(10, 20))
        assert (caught.value.pushed, caught.value.unsure) == (0, 10)
        assert data(client) == list(range(20))
        producer.push(20)
    assert data(client) == list(range(21))


@pytest.fixture
def remembering() -> Iterator[int]:
    """The port of a model of a server that has XADD with IDMP, as Redis 8.6 has."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis", server_version=(8, 6))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_that_remembers_is_sent_them_again(remembering: int, make: Make) -> None:
    proxy = Proxy(remembering)
    client = redis.Redis(port=remembering)
    try:
        with make(proxy.url, STREAM) as producer:
            client.xadd(STREAM, {"data": 0})  # it closes connections with every error: let there be a stream
            producer.push_many(range(1, 10))
            producer.push(10)
            with healing(proxy, lambda: client.xlen(STREAM) == 211):
                assert producer.push_many(range(11, 211)) == 200
            producer.push(211)
            assert (producer.metrics.pushed, producer.metrics.resent) == (211, 1)
        assert data(client) == list(range(212))
    finally:
        client.close()
        proxy.close()


def test_what_comes_late_is_not_done_again(own_server: Server) -> None:
    """The server stands still, and finds both attempts when it goes on."""
    client: Any = own_server.client()

    class Thawing(Producer):
        talks = 0

        def _talk(self, talk: Talk) -> Heard:
            self.talks += 1
            if self.talks == 2:
                freezing.close()
            return super()._talk(talk)

    with (
        Thawing(own_server.url, STREAM, maxlen=100, on_full="reject", timeout_s=4.0) as producer,
        contextlib.ExitStack() as freezing,
    ):
        Producer.push(producer, 0)
        producer.talks = 0
        freezing.enter_context(own_server.frozen())
        producer.push(1)
        producer.push(2)
        assert producer.metrics.resent == 1
    assert data(client) == [0, 1, 2]
