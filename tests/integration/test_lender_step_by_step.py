"""The lender, on a real server and a real segment; the owner of a slot is the test, one store at a time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support_servers import Server

from rsq.ipc.cells import D, DeskState, K, P, PoolState, S, SeatState, W
from rsq.ipc.fence import boot_time
from rsq.ipc.journal import JOURNAL_MAX, WAITING_MAX
from rsq.ipc.segment import Identity, Segment
from rsq.ipc.slot import Slot
from rsq.streams.connection import Target
from rsq.streams.marks import split
from rsq.streams.wire import Lost
from rsq.supervisor.lender import LONG_S, QUICK_S, Lender
from rsq.supervisor.line import Line
from rsq.supervisor.settings import Pool

STREAM, GROUP, INSTANCE = "events", "workers", "test"
OWNER, RECEIVER = f"{INSTANCE}:0", f"{INSTANCE}:1"


class Deaf(Line):
    """A line whose replies are lost, if told so."""

    loses = ""

    def call(self, *packed: bytes) -> list[Any]:
        replies = super().call(*packed)
        if self.loses and any(b"XCLAIM" in command for command in packed):
            raise Lost(self.loses)
        return replies


class Scene:
    """A pool of two slots: what the owner has pending, and a neighbour that is idle."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.redis: Any = server.client()
        self.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        self.segment = Segment.create(folder, Identity(STREAM, GROUP, INSTANCE), 2)
        pool, keep = self.segment.pool.view, self.segment.keep
        pool[P.STATE], pool[P.WORKERS] = PoolState.RUNNING, 2
        keep.real[K.UNTIL] = boot_time() + 60
        self.owner, self.receiver = self.slot(0), self.slot(1)
        self.sitter, self.stand_up = self._sit(1)
        self.receiver.desk.view[D.PID] = self.receiver.desk.view[D.MARKS] = self.sitter
        self.receiver.desk.view[D.STATE] = DeskState.IDLE
        self.line = Deaf(
            Target(server.url, server.url), "test:lender", 5.0, 5.0, lambda: math.inf, self._quiet()
        )
        self.rung = 0
        source = SimpleNamespace(
            spec=SimpleNamespace(source=SimpleNamespace(stream=STREAM, group=GROUP, instance=INSTANCE))
        )
        self.lender = Lender(cast("Pool", source), self.segment, self.line, self._ring)

    def slot(self, number: int) -> Slot:
        self.segment.open_slot(number)
        slot = self.segment.slot(number)
        slot.seat.view[S.STATE] = SeatState.RUNNING
        slot.desk.view[D.CONNECTED], slot.desk.real[D.BOOTED] = 1, time.monotonic()
        slot.waiting.load()
        return slot

    def _quiet(self) -> int:
        reader, self._writer = os.pipe()
        return reader

    def _ring(self) -> None:
        self.rung += 1

    def _sit(self, number: int) -> tuple[int, int]:
        """Fork a process that sits in a slot."""
        told, tell = os.pipe()
        said, say = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(tell)
            self.segment.lock_slot(number)
            os.write(say, b".")
            os.read(told, 1)
            os._exit(0)
        os.read(said, 1)
        return pid, tell

    def close(self) -> None:
        os.close(self.stand_up)
        os.waitpid(self.sitter, 0)

    # The owner

    def reads(self, count: int) -> list[bytes]:
        """Let the owner have so many more entries pending."""
        for n in range(count):
            self.redis.xadd(STREAM, {"data": n})
        (_, found), *_ = self.redis.xreadgroup(GROUP, OWNER, {STREAM: ">"}, count=count)
        return [entry for entry, _ in found]

    def runs(self, ids: list[bytes], at: int = 0) -> None:
        """Let the owner run one of these for longer than a long entry does."""
        self.owner.journal.open(ids)
        self.owner.desk.view[D.HELD], self.owner.desk.view[D.STATE] = len(ids), DeskState.HANDLING
        self.owner.desk.view[D.RUNNING] = 1
        for index in range(at + 1):
            self.marks(index)

    def marks(self, at: int) -> None:
        self.owner.journal.marks[at] = time.monotonic() - 2 * LONG_S
        time.sleep(0.02)  # what was touched just now is not lent

    def of(self, consumer: str) -> list[bytes]:
        """Return what a slot has pending."""
        rows: Any = self.redis.xpending_range(STREAM, GROUP, "-", "+", 5000)
        return [row["message_id"] for row in rows if split(row["consumer"].decode())[0] == consumer]


@pytest.fixture
def scene(server: Server, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(server, tmp_path)
    yield made
    made.close()


def test_what_lies_behind_a_long_one_is_lent(scene: Scene) -> None:
    ids = scene.reads(5)
    scene.runs(ids, 1)
    scene.lender.glance(may_lend=True)
    assert scene.of(RECEIVER) == ids[2:]
    assert scene.owner.ward.view[W.LENT] == 3
    assert (scene.receiver.ward.view[W.HANDED], scene.rung) == (1, 1)


def test_it_does_not_sleep_while_a_batch_is_about_to_begin(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker says what it has in hand, gives its nudge, and only then begins."""
    now = time.monotonic()
    clock = SimpleNamespace(monotonic=lambda: now, sleep=time.sleep)
    monkeypatch.setattr("rsq.supervisor.lender.time", clock)
    scene.owner.desk.view[D.HELD] = 5
    assert scene.lender.glance(may_lend=True) < math.inf
    assert not scene.segment.keep.view[K.CALM]
    scene.owner.desk.view[D.HELD], scene.owner.desk.view[D.MORE] = 0, 1  # as a worker leaves it that waits
    now += 2 * QUICK_S
    assert Lender.glance(scene.lender, may_lend=True) < math.inf


def test_the_end_of_a_long_one_is_not_taken_for_a_start(scene: Scene) -> None:
    """Its owner saw that it was asked, behind the mark of the next, and is stopped there for long."""
    ids = scene.reads(5)
    scene.runs(ids, 1)
    scene.lender.glance(may_lend=True)
    runs_on = scene.owner.ward.view[W.RUNS_ON]
    late = scene.reads(3)
    scene.marks(2)
    scene.owner.desk.view[D.MORE] = 1
    time.sleep(0.02)
    scene.lender.glance(may_lend=True)
    assert scene.of(RECEIVER) == ids[2:] + late
    assert scene.owner.ward.view[W.RUNS_ON] == runs_on


def test_its_receiver_is_told_even_if_the_answer_is_lost(scene: Scene) -> None:
    ids = scene.reads(5)
    scene.runs(ids)
    scene.line.loses = "the answer is lost"
    scene.lender.glance(may_lend=True)
    assert scene.of(RECEIVER) == ids[1:]
    assert (scene.receiver.ward.view[W.HANDED], scene.rung) == (1, 1)


def test_a_thousand_that_wait_for_a_retry_do_not_hide_the_rest(scene: Scene) -> None:
    for entry in scene.reads(1100):
        scene.owner.waiting.put(entry, 2, time.monotonic() + 3600)
    scene.owner.desk.view[D.WAITING] = 1100
    ids = scene.reads(5)
    scene.runs(ids)
    scene.lender.glance(may_lend=True)
    assert scene.of(RECEIVER) == ids[1:]


def test_who_has_no_room_for_failures_gets_nothing(scene: Scene) -> None:
    """It looks idle, but reads and takes nothing until some of its retries are over."""
    scene.runs(scene.reads(5))
    scene.receiver.desk.view[D.WAITING] = WAITING_MAX - JOURNAL_MAX
    scene.lender.glance(may_lend=True)
    assert scene.of(RECEIVER) == []


def test_what_was_over_too_soon_makes_it_wary(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that waits for a core looks as if its entry took long; to be asked costs it a claim."""
    now = time.monotonic()
    clock = SimpleNamespace(monotonic=lambda: now, sleep=time.sleep)
    monkeypatch.setattr("rsq.supervisor.lender.time", clock)

    def is_asked(ids: list[bytes], age_s: float) -> bool:
        """Let another batch have begun so long before now, and the lender look."""
        nonlocal now
        now += QUICK_S
        scene.runs(ids)
        scene.owner.journal.marks[0] = now - age_s
        asked = scene.owner.ward.real[W.ASKED]
        scene.lender.glance(may_lend=True)
        return scene.owner.ward.real[W.ASKED] != asked

    ids = scene.reads(8)
    assert is_asked(ids[:4], 1.1 * LONG_S), "nothing is known yet"
    assert not is_asked(ids[4:], 1.1 * LONG_S), "the one before was over too soon"
    assert is_asked(ids[4:], 2.2 * LONG_S)
    now += 10 * LONG_S
    scene.lender.glance(may_lend=True)
    assert is_asked(scene.reads(4), 1.1 * LONG_S), "that one was long indeed"
