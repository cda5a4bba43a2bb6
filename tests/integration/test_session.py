"""The session with a real server: debts that are refused, and tries that take their time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from support_servers import Server
from support_shared import shared

from rsq.ipc.cells import CELL, Keep
from rsq.ipc.fence import Fence
from rsq.ipc.ledger import C
from rsq.ipc.slot import SLOT_SIZE, Slot
from rsq.streams.connection import target
from rsq.streams.group import pack
from rsq.worker.session import Ask, Refused, Session


@pytest.fixture
def slot() -> Slot:
    slot = Slot(shared(SLOT_SIZE))
    slot.ledger.load()
    return slot


@pytest.fixture
def idle_pipe() -> Iterator[int]:
    """A descriptor on which nothing ever comes."""
    reading, writing = os.pipe()
    yield reading
    os.close(reading)
    os.close(writing)


def session(url: str, slot: Slot, watch: int, stopping: list[str]) -> Session:
    fence = Fence(Keep(shared(Keep.SIZE * CELL)))
    return Session(target(url), "test:0", slot.desk, slot.ledger, (watch,), lambda: None, stopping, fence)


def test_a_refused_debt_stays_owed_and_takes_no_other_reply(
    server: Server, slot: Slot, idle_pipe: int
) -> None:
    """Who goes on with the line after a refusal must get the replies to his own questions.

    Were the next reply taken for the debt's, an acknowledgement would be believed that never was.
    """
    admin = server.client()
    admin.set("events", "a string")
    line = session(server.url, slot, idle_pipe, [])
    assert line.connect()
    line.owe(7, pack("XACK", "events", "workers", "1-0"))
    asked = Ask(pack("ECHO", "first"))
    line.send(asked)
    with pytest.raises(Refused, match="WRONGTYPE"):
        line.wait(asked)
    line.wait(asked)
    assert asked.reply == b"first"
    assert line.oldest_debt() == 7
    with pytest.raises(Refused, match="WRONGTYPE"):
        line.settle()
    admin.delete("events")
    line.settle()
    assert line.oldest_debt() is None
    line.drop()


def test_a_reconnect_is_counted_for_all_to_see_at_once(server: Server, slot: Slot, idle_pipe: int) -> None:
    """With nothing to handle there is no commit for long; and a recovery begins with what is committed."""
    line = session(server.url, slot, idle_pipe, [])
    assert line.connect()
    assert slot.ledger.read()[0].counters[C.RECONNECTS] == 0
    assert line.connect()
    assert slot.ledger.read()[0].counters[C.RECONNECTS] == 1
    line.drop()


def test_nothing_is_waited_for_beyond_the_end(server: Server, slot: Slot, idle_pipe: int) -> None:
    line = session(server.url, slot, idle_pipe, [])
    assert line.connect()
    end = time.monotonic() + 1.0
    line.hurry(end)
    asked = Ask(pack("PING"))
    line.send(asked)
    assert asked.deadline == end
    line.drop()


def test_a_last_try_to_connect_pauses_between_tries(
    slot: Slot, idle_pipe: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the worker is told to stop: the drain wants Redis once more, but not in a hot loop."""
    clock = 0.0

    def tick(seconds: float = 0.001) -> float:
        nonlocal clock
        clock += seconds
        return clock

    monkeypatch.setattr("rsq.worker.session.time", SimpleNamespace(monotonic=tick))
    monkeypatch.setattr("rsq.worker.session.wait_readable", lambda _watch, left: tick(left))
    line = session("redis://127.0.0.1:1/0", slot, idle_pipe, ["drain"])
    assert not line.connect(give_up=1.0)
    tries = slot.ledger.sums.counters[C.REDIS_ERRORS]
    assert 4 <= tries <= 10
