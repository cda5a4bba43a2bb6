"""Whether a primary is the primary still: who is asked, how often, and what follows from no answer."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from rsq.streams import lookout
from rsq.streams.connection import target
from rsq.streams.lookout import Lookout

FIRST, SECOND = ("10.0.0.1", 6379), ("10.0.0.2", 6379)


@dataclass
class Sentinel:
    """Answers one question, as often as it is asked."""

    names: tuple[str, int] = FIRST
    asked: int = 0
    silent: bool = False
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    def __post_init__(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError), link:
            while link.recv(4096):
                self.asked += 1
                if not self.silent:
                    host, port = self.names
                    words = (host.encode(), b"%d" % port)
                    link.sendall(b"*2\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))


@pytest.fixture
def sentinels() -> Iterator[list[Sentinel]]:
    made = [Sentinel(), Sentinel()]
    yield made
    for one in made:
        one.listener.close()


@pytest.fixture
def watch(sentinels: list[Sentinel], monkeypatch: pytest.MonkeyPatch) -> Iterator[Lookout]:
    """One that has found the first server; whoever searches finds whom the first sentinel names."""
    monkeypatch.setattr(lookout, "find", lambda *_: sentinels[0].names)
    url = f"redis+sentinel://{','.join(one.place for one in sentinels)}/main"
    made = Lookout(target(url), 4.0)
    assert made.find() == FIRST
    yield made
    made.close()


def test_it_asks_once_a_second_over_one_connection(watch: Lookout, sentinels: list[Sentinel]) -> None:
    assert all(watch.still(FIRST) for _ in range(100))
    assert sentinels[0].asked == 0, "it was found just now"
    for asked in (1, 2):
        watch.due = 0.0
        assert watch.still(FIRST)
        assert watch.due > time.monotonic()
        assert (sentinels[0].asked, sentinels[1].asked) == (asked, 0)


def test_who_was_replaced_is_not_believed(watch: Lookout, sentinels: list[Sentinel]) -> None:
    for one in sentinels:
        one.names = SECOND
    assert watch.still(FIRST), "nobody has asked yet"
    watch.due = 0.0
    assert not watch.still(FIRST)
    assert watch.still(SECOND)


def test_old_news_of_one_sentinel_is_not_followed(watch: Lookout, sentinels: list[Sentinel]) -> None:
    """It is cut off: the next one is asked from then on."""
    sentinels[0].names = SECOND
    watch.find()
    sentinels[1].names = SECOND
    watch._place, sentinels[1].names = 1, FIRST
    watch.due = 0.0
    assert watch.still(SECOND)
    asked = sentinels[0].asked
    watch.due = 0.0
    assert watch.still(SECOND)
    assert sentinels[0].asked == asked + 1


def test_without_an_answer_it_is_kept_and_not_asked_for_soon(
    watch: Lookout, sentinels: list[Sentinel]
) -> None:
    """Sentinels that keep us waiting must not cost the work more than a tenth of its time."""
    for one in sentinels:
        one.silent = True
    watch.due, began = 0.0, time.monotonic()
    assert watch.still(FIRST)
    now = time.monotonic()
    assert watch.due - now >= 5 * (now - began)
    assert min(one.asked for one in sentinels) >= 1


def test_a_silent_one_is_passed_over(watch: Lookout, sentinels: list[Sentinel]) -> None:
    sentinels[0].silent = True
    sentinels[1].names = SECOND
    sentinels[0].names = SECOND
    watch.due = 0.0
    assert not watch.still(FIRST)


def test_a_descriptor_that_was_closed_is_not_written_to(watch: Lookout, sentinels: list[Sentinel]) -> None:
    """User code closes all it finds; the number may be that of a file of its own by now."""
    watch.due = 0.0
    assert watch.still(FIRST)
    number = watch._link._sock.fileno()
    reading, writing = os.pipe()
    os.dup2(writing, number)
    watch.due = 0.0
    assert watch.still(FIRST)
    assert sentinels[0].asked == 2
    os.set_blocking(reading, False)
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    for fd in (reading, writing, number):
        os.close(fd)
