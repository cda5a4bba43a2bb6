"""A push arrives, its answer does not: whether it can be sent again depends on what the server remembers."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from fakeredis import TcpFakeServer
from support_pool import until
from support_producers import FACES, Make
from support_proxy import Proxy
from support_servers import Server, found

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
    if own_server.binary.remembers:
        pytest.skip("this server remembers: see below")
    client: Any = own_server.client()
    with make(proxy.url, STREAM) as producer:
        producer.push_many(range(10), batch=5)  # after the first batch it knows what the server remembers
        with healing(proxy, lambda: client.xlen(STREAM) == 20), pytest.raises(PushError) as caught:
            producer.push_many(range(10, 20))
        assert (caught.value.pushed, caught.value.unsure) == (0, 10)
        assert data(client) == list(range(20))
        producer.push(20)
    assert data(client) == list(range(21))


# By name: these take no turns with tests beside other servers.
REMEMBERING = {one.name: one for one in found() if one.remembers}


@pytest.fixture(params=REMEMBERING or ["model"])
def remembering(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server that has XADD with IDMP; of a model of one where none is found."""
    binary = REMEMBERING.get(request.param)
    if binary is not None:
        real = Server(binary, durable=False)
        try:
            real.start()
            yield real.port
        finally:
            real.discard()
        return
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis", server_version=(8, 6, 2))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(remembering: int) -> Iterator[Any]:
    with redis.Redis(port=remembering) as made:
        yield made


@pytest.fixture
def line(remembering: int) -> Iterator[Proxy]:
    between = Proxy(remembering)
    try:
        yield between
    finally:
        between.close()


def tracked(client: Any) -> int:
    """Of how many producers the server remembers any ids."""
    return int(client.xinfo_stream(STREAM)["pids-tracked"])


def test_a_server_that_remembers_is_sent_them_again(client: Any, line: Proxy, make: Make) -> None:
    with make(line.url, STREAM) as producer:
        client.xadd(
            STREAM, {"data": 0}
        )  # the model closes connections with every error: let there be a stream
        producer.push_many(range(1, 10))
        producer.push(10)
        with healing(line, lambda: client.xlen(STREAM) == 211):
            assert producer.push_many(range(11, 211)) == 200
        producer.push(211)
        assert (producer.metrics.pushed, producer.metrics.resent) == (211, 1)
    assert data(client) == list(range(212))


def test_the_first_push_is_protected_though_the_answer_to_its_question_is_lost(
    client: Any, line: Proxy, make: Make
) -> None:
    """What the server remembers is not known then: it is asked again."""
    client.xadd(STREAM, {"data": 0})
    with make(line.url, STREAM) as producer:
        producer.ensure_group("workers")  # so that there is a connection
        before = line.passed("to_server")
        with healing(line, lambda: line.passed("to_server") > before):
            producer.push(1)
        assert tracked(client) == 1
    assert data(client) == [0, 1]


def test_after_a_push_that_failed_the_next_one_is_protected(
    remembering: int, client: Any, line: Proxy, make: Make
) -> None:
    client.xadd(STREAM, {"data": 0})
    with make(line.url, STREAM) as producer:
        producer.push(1)
        line.refuse()
        line.cut()
        with pytest.raises(PushError):
            producer.push(2)
        line.heal()
        producer.push(3)
        with healing(line, lambda: client.xlen(STREAM) == 4):
            producer.push(4)
    assert data(client) == [0, 1, 3, 4]


def test_processes_that_come_and_go_leave_few_names(
    remembering: int, client: Any, make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server whose clock is behind keeps each name for ever."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where no other test takes names
    client.xadd(STREAM, {"data": 0})
    for number in range(5):
        pid = os.fork()
        if pid == 0:
            with (
                contextlib.suppress(BaseException),
                make(f"redis://127.0.0.1:{remembering}/0", STREAM) as producer,
            ):
                producer.push(number)
                producer.push_many([number] * 10)
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
    assert client.xlen(STREAM) == 56
    assert tracked(client) == 1


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
