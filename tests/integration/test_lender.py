"""The lender, over a real segment and server, with slots whose workers are played by the test."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support_servers import Server
from support_sweep import pool as settings

from rsq.ipc.cells import D, DeskState, K, P, PoolState, S, SeatState, W
from rsq.ipc.fence import boot_time
from rsq.ipc.segment import Identity, Segment
from rsq.streams.connection import target
from rsq.streams.group import Group, merged
from rsq.streams.marks import split
from rsq.streams.wire import Wire
from rsq.supervisor.lender import Lender

STREAM, GROUP, INSTANCE = "orders", "mailer", "leader"


class Play:
    """A pool of three slots: the first has run an entry for long, the others are as a test says."""

    def __init__(self, server: Server, folder: Path) -> None:
        client: Any = server.client()
        self.redis = client
        self.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        self.now = time.monotonic()  # stands still: nobody waits for longer than a test says
        self.segment = Segment.create(folder, Identity(STREAM, GROUP, INSTANCE), 3)
        for number in range(3):
            self.segment.open_slot(number)
            desk = self.segment.slot(number).desk.view
            desk[D.PID] = desk[D.MARKS] = os.getpid()
        self.segment.pool.view[P.WORKERS], self.segment.pool.view[P.STATE] = 3, PoolState.RUNNING
        self.segment.keep.real[K.UNTIL] = boot_time() + 1000
        self.wire = Wire(target(server.url), "test", 20.0)
        self.before: list[Callable[[], None]] = []  # what happens before each write to the server
        self.rung = 0
        self.idle: set[int] = set()
        line: Any = SimpleNamespace(connect=lambda rest=True: True, call=self.call)
        self.lender = Lender(settings(server.url), self.segment, line, self.ring)
        # Nobody but a process of its own can hold a slot's lock: it is told who sits where.
        self.lender._segment = _Seated(self.segment)  # type: ignore[assignment]
        self.ids: list[bytes] = [client.xadd(STREAM, {"data": "1"}) for _ in range(6)]
        self.redis.xreadgroup(GROUP, f"{INSTANCE}:0", {STREAM: ">"})
        time.sleep(0.01)  # rows that were touched just now are left alone
        self.owner = self.segment.slot(0)
        self.owner.journal.open(self.ids)
        self.owner.journal.marks[0] = self.now - 0.5
        desk = self.owner.desk.view
        desk[D.RUNNING], desk[D.HELD], desk[D.STATE] = 1, 6, DeskState.HANDLING

    def ring(self) -> None:
        self.rung += 1

    def call(self, *packed: bytes) -> list[Any]:
        if self.before:
            self.before.pop(0)()
        self.wire.send(b"".join(packed))
        return [self.wire.receive(time.monotonic() + 20)[1] for _ in packed]

    def rest(self, slot: int) -> None:
        """Let a slot be idle."""
        parts = self.segment.slot(slot)
        parts.desk.view[D.STATE], parts.desk.view[D.CONNECTED] = DeskState.IDLE, 1
        parts.desk.real[D.BOOTED] = 1.0
        parts.seat.view[S.STATE] = SeatState.RUNNING

    def owns(self) -> dict[bytes, int]:
        """Return how many entries each slot has."""
        rows: Any = self.redis.xpending_range(STREAM, GROUP, "-", "+", 1000)
        return dict(Counter(split(row["consumer"].decode())[0].encode() for row in rows))

    def handed(self, slot: int) -> int:
        return self.segment.slot(slot).ward.view[W.HANDED]

    def glance(self, *, may_lend: bool = True) -> float:
        return self.lender.glance(may_lend=may_lend)


class _Seated:
    def __init__(self, segment: Segment) -> None:
        self._segment = segment

    def __getattr__(self, name: str) -> Any:
        return getattr(self._segment, name)

    def slot_holder(self, slot: int) -> int:
        return self._segment.slot(slot).desk.view[D.PID]


@pytest.fixture
def play(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Play]:
    made = Play(server, tmp_path)
    monkeypatch.setattr(
        "rsq.supervisor.lender.time", SimpleNamespace(monotonic=lambda: made.now, sleep=time.sleep)
    )
    yield made
    made.wire.close()


def test_what_is_behind_a_long_entry_goes_to_idle_slots(play: Play) -> None:
    play.rest(1)
    play.rest(2)
    play.glance()
    assert play.owns() == {b"leader:0": 1, b"leader:1": 3, b"leader:2": 2} or play.owns() == {
        b"leader:0": 1, b"leader:1": 2, b"leader:2": 3
    }  # fmt: skip
    assert (play.handed(1), play.handed(2), play.rung) == (1, 1, 1)
    assert play.owner.ward.view[W.LENT] == 5
    assert all(entry in play.owner.loans for entry in play.ids[1:])
    assert play.ids[0] not in play.owner.loans


@pytest.mark.parametrize("when", [0, 1])
def test_nothing_is_lent_by_a_worker_that_has_gone_on(play: Play, when: int) -> None:
    """Before the rows are read: seen at the second look. After it: it claims, and the script finds that."""
    play.rest(1)

    def goes_on() -> None:
        assert play.owner.ward.real[W.ASKED]
        play.owner.desk.view[D.RUNNING] = 0
        play.owner.journal.marks[1] = play.now
        claim = Group(STREAM, GROUP, "leader:0").claim(dict.fromkeys(play.ids[1:], 1))
        play.wire.send(claim)
        assert len(play.wire.receive(time.monotonic() + 20)[1]) == 5
        play.owner.journal.open(play.ids[1:])
        play.owner.journal.marks[0] = play.now
        play.owner.desk.view[D.RUNNING] = 1

    play.before = [*([lambda: None] * when), goes_on]
    play.glance()
    assert play.owns() == {b"leader:0": 6}
    assert play.owner.ward.view[W.LENT] == 0
    assert not any(entry in play.owner.loans for entry in play.ids)
    assert play.handed(1) == 0


def test_a_mark_that_moves_between_the_looks_ends_it(play: Play) -> None:
    """Without a claim: only the second look can see it."""
    play.rest(1)
    play.before = [lambda: play.owner.journal.marks.__setitem__(1, play.now)]
    play.glance()
    assert play.owns() == {b"leader:0": 6}


@pytest.mark.parametrize(
    "why", ["paused", "no lease", "another keeper", "stopping", "nobody idle", "draining"]
)
def test_nothing_is_lent_while_it_may_not_be(play: Play, why: str) -> None:
    if why != "nobody idle":
        play.rest(1)
    if why == "paused":
        play.segment.keep.view[K.PAUSED] = 1
    elif why == "no lease":
        play.segment.keep.real[K.UNTIL] = 0.0
    elif why == "stopping":
        play.segment.pool.view[P.STATE] = PoolState.STOPPING
    elif why == "draining":
        play.segment.slot(1).seat.view[S.STATE] = SeatState.DRAINING
    play.glance(may_lend=why != "another keeper")
    assert play.owns() == {b"leader:0": 6}
    assert play.owner.ward.real[W.ASKED] == 0, "its worker was asked for nothing"


def test_nothing_is_lent_in_another_term(play: Play) -> None:
    play.rest(1)
    play.before = [lambda: play.segment.keep.view.__setitem__(K.TERM, 7)]
    play.glance()
    assert play.owns() == {b"leader:0": 6}


def test_with_nobody_idle_for_long_it_rests_and_an_idle_slot_gets_it_then(play: Play) -> None:
    play.owner.journal.marks[0] = play.now - 2
    play.glance()
    group = Group(STREAM, GROUP, "leader:0")
    assert len(merged(play.call(*group.resting(100)))) == 5
    play.rest(1)
    play.lender._due = 0.0
    play.glance()
    assert play.owns() == {b"leader:0": 1, b"leader:1": 5}


def test_a_keeper_with_nothing_to_lend_is_calm_until_it_is_nudged(play: Play) -> None:
    assert play.glance() < play.now + 1
    assert not play.segment.keep.view[K.CALM]
    play.owner.desk.view[D.RUNNING] = play.owner.desk.view[D.HELD] = 0
    play.lender._due = play.lender._calm_from = 0.0
    assert play.glance() == float("inf")
    assert play.segment.keep.view[K.CALM]
