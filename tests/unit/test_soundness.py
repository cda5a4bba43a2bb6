"""Memory that makes no sense is found before it is gone on with, and no reader fails on what is not found."""

from __future__ import annotations

import random
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rsq.ipc import aside
from rsq.ipc.breakers import Row
from rsq.ipc.cells import D, K, P, PoolState, S
from rsq.ipc.exitcodes import Cause
from rsq.ipc.journal import Kind, Outcome
from rsq.ipc.ledger import C
from rsq.ipc.segment import HEADER_SIZE, Identity, Segment
from rsq.ipc.slot import SLOT_SIZE, Slot
from rsq.ipc.soundness import Unsound, check, mend_header
from rsq.streams.connection import Target
from rsq.streams.group import Group
from rsq.supervisor import board, exporter, root, shell, status
from rsq.supervisor.crew import Crew
from rsq.supervisor.gallery import One
from rsq.supervisor.horizon import Horizon
from rsq.supervisor.lender import Lender
from rsq.supervisor.master import first_size
from rsq.supervisor.metrics import Metrics
from rsq.supervisor.reading import snapshot
from rsq.supervisor.switchboard import Switchboard
from rsq.worker.backlog import Backlog
from rsq.worker.batcher import Batcher
from rsq.worker.handler import Handler
from rsq.worker.recovery import to_bury
from rsq.worker.router import Route
from rsq.worker.shelf import Shelf
from rsq.worker.spec import Reading, Retries, Source, Spec, Work
from rsq.worker.stories import Stories
from rsq.worker.ways import Ways

SOURCE = Source(Target("redis://", "redis://"), "events", "workers", "test", "0", "events:dlq")
SPEC = Spec(
    SOURCE,
    Work("app:handle", "json", False, True),
    Retries(2, 0.0, 0.0),
    Reading(500, 0.05, 5.0, False),
    0.0,
    0.0,
)
WAYS = Ways(Handler("app:handle", (Route((), print),)), SPEC)
SLOTS = 3
ROUNDS = 60
SPECIAL = [0, 1, 2, 3, 4096, 1 << 31, 1 << 32, 1 << 40, 1 << 62, 1 << 63, (1 << 64) - 1]
REALS = [float("nan"), float("inf"), float("-inf"), -1.0, 1e300, 5e-324]


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    """Three slots with all that a worker, a master and a keeper write."""
    made = Segment.create(tmp_path, Identity("events", "workers", "test"), SLOTS)
    for number in range(SLOTS):
        made.open_slot(number)
        _work(made.slot(number))
    made.pool.view[P.WORKERS], made.pool.view[P.STATE] = SLOTS, PoolState.RUNNING
    made.pool.real[P.HEARTBEAT] = time.monotonic()
    yield made
    made.close()


def _work(slot: Slot) -> None:
    now = time.monotonic()
    slot.waiting.load()
    slot.ledger.load()
    ids = [b"%d-0" % number for number in range(1, 9)]
    slot.journal.open(ids, [1] * 8)
    for at in range(9):
        slot.journal.marks[at] = now
    slot.ledger.sums.counters[C.HANDLED] = 8
    slot.ledger.commit(1, 8)
    slot.journal.open(ids, [1, 1, 2, 1, to_bury(3, Outcome.DEAD_CRASH), 1, 1, 1])
    for at in range(4):
        slot.journal.marks[at] = now + at / 1000
    slot.journal.outcomes[1] = Outcome.WAITING
    slot.waiting.put(b"2-0", 2, now + 100)
    slot.waiting.put(b"77-3", to_bury(2, Outcome.DEAD_TIMEOUT), now + 1)
    slot.events.row(b"created")
    slot.pipe.put({"kind": "failure", "id": "2-0", "error": "words"})
    slot.loans.add([b"8-0"])
    slot.strain.register([Row(b"created", 5, 1000, 1000, 1, 1000)])
    slot.desk.view[D.RUNNING] = slot.desk.view[D.HOLDS] = 1
    slot.desk.view[D.HELD] = 5
    slot.seat.view[S.CAUSE], slot.seat.view[S.DETAIL] = Cause.CRASH, 11


def _garble(chance: random.Random, view: memoryview, size: int) -> None:
    """Write something anywhere: a special cell, some bytes, or noise all over a stretch."""
    kind = chance.randrange(4)
    if kind < 2:
        cells = size // 8
        at = 8 * (chance.randrange(cells) if kind else chance.randrange(min(cells, 3000)))
        real = struct.pack("<d", chance.choice(REALS))
        view[at : at + 8] = chance.choice([chance.choice(SPECIAL).to_bytes(8, "little"), real])
    elif kind == 2:
        for _ in range(chance.randrange(1, 12)):
            view[chance.randrange(size)] = chance.randrange(256)
    else:
        length = chance.randrange(1, size)
        at = chance.randrange(size - length)
        view[at : at + length] = chance.randbytes(length)


class _Line:
    """A server on which nothing is pending, or three entries are."""

    term = 1

    def __init__(self, pending: list[bytes]) -> None:
        self._rows = [[entry, b"test:0", 0, 1] for entry in pending]

    def must(self, _command: bytes) -> Any:
        return self._rows

    def call(self, *commands: bytes) -> list[Any]:
        asked = [len(re.findall(rb"\n\d+-\d+\r", command)) for command in commands]
        return [
            [None] * ids if b"HMGET" in command else [] for command, ids in zip(commands, asked, strict=True)
        ]

    def __getattr__(self, _name: str) -> Any:
        return lambda *_args, **_more: 0


class _Books(_Line):
    def earlier(self, _entries: object) -> dict[bytes, int]:
        return {}


def _recover(slot: Slot) -> None:
    """Do what a successor does at its start."""
    line = _Line([b"1-0", b"4-0", b"77-3"])
    group, books = Group("events", "workers", "test:0"), cast("Any", _Books([]))
    shelf, stories = Shelf(slot.waiting), Stories(Path("/nowhere/stories"))
    Backlog(WAYS, slot, group, cast("Any", line), shelf, books, Batcher({}), stories).recover()


def _read(segment: Segment) -> None:
    """Let every reader look: master, keeper, exporter, root, and people."""
    now = time.monotonic()
    view = snapshot(segment)
    status.as_json(view)
    for shown in board.boards([view]):
        str(shown)
    Metrics(One(segment)).page()
    exporter._Pipes(segment, "").drain()
    for slot in range(SLOTS):
        shell.look(segment, slot, 1, memory=False)
    first_size(cast("Any", SimpleNamespace(scale=None, workers=2)), segment)
    root._empty(segment)
    crew = Crew(segment, "test", 12, 5.0)
    crew.look()
    crew.hand(range(SLOTS))
    crew.mind_strangers(orphaned=False)
    crew.most_attempts()
    crew.find_robbed(("events", "workers", "test"), lambda *asks: [1] * len(asks))
    pool = cast("Any", SimpleNamespace(spec=SPEC, title="events/workers"))
    Lender(pool, segment, cast("Any", None), print).glance(may_lend=False)
    Switchboard("events/workers", ("events", "workers"), segment, cast("Any", None), print).glance(
        may_act=False
    )
    scale = cast("Any", SimpleNamespace(look_s=1.0, max_memory=0))
    Horizon(segment, scale).look(dict.fromkeys(range(SLOTS), 1), now)


def test_what_we_write_is_sound(segment: Segment) -> None:
    for number in range(SLOTS):
        check(segment.slot(number))
    check(Slot(memoryview(bytearray(SLOT_SIZE))))
    segment.keep.view[K.TOKEN] = (1 << 63) - 7  # random: it is the right to go on with the lease
    assert mend_header(segment) == []
    assert segment.keep.view[K.TOKEN] == (1 << 63) - 7
    slot = segment.slot(0)
    for kind in Kind:
        slot.journal.open([b"1-0", b"2-0"], [1, 1], kind)
        check(segment.slot(0))
        slot.journal.marks[0] = time.monotonic()
        check(segment.slot(0))


def test_a_slot_whose_process_was_told_to_end_is_sound(segment: Segment) -> None:
    """The master's note of when is a time beside counters; its successor may look before it is taken back."""
    slot = segment.slot(0)
    slot.seat.real[S.DRAINS_AT] = time.monotonic()
    check(slot)
    slot.seat.view[S.RESTARTS + Cause.RELOAD] = 1 << 63
    with pytest.raises(Unsound, match="a counter"):
        check(slot)


@pytest.mark.parametrize("seed", range(3))
def test_any_content_is_survived(segment: Segment, seed: int) -> None:
    """Each reader looks at it as it is; a slot that is found unsound begins anew, any other is recovered."""
    chance = random.Random(seed)
    whole = bytes(segment._view[: HEADER_SIZE + SLOTS * SLOT_SIZE])
    start = HEADER_SIZE
    found = 0
    for _ in range(ROUNDS):
        segment._view[: len(whole)] = whole
        number = chance.randrange(SLOTS)
        at = start + number * SLOT_SIZE
        _garble(chance, segment._view[at : at + SLOT_SIZE], SLOT_SIZE)
        if chance.random() < 0.3:
            cells = 32 + 3 * 514
            _garble(chance, segment._view[cells:HEADER_SIZE], HEADER_SIZE - cells)
        _read(segment)
        mend_header(segment)
        try:
            check(segment.slot(number))
        except Unsound as error:
            found += 1
            segment.set_aside(number, str(error))
            check(segment.slot(number))
            assert segment.slot(number).desk.view[D.SET_ASIDE] == 1
        _recover(segment.slot(number))
        _read(segment)
    assert found > ROUNDS // 10
    assert len(list(segment.path.parent.glob("*.garbled-*"))) == aside.KEPT


def test_what_stays_when_a_slot_begins_anew(segment: Segment) -> None:
    """What the master says of the process that is in it now, and how often that has happened."""
    seat = segment.slot(1).seat
    seat.view[S.PID], seat.real[S.SPAWNED] = 4711, 5.5
    neighbours = [bytes(segment._view[HEADER_SIZE + at * SLOT_SIZE :][:SLOT_SIZE]) for at in (0, 2)]
    for times in (1, 2):
        segment.slot(1).journal.banks[0].head[1] = 5000
        with pytest.raises(Unsound, match="journal bank 0"):
            check(segment.slot(1))
        kept = Path(segment.set_aside(1, "words"))
        assert kept.stat().st_mode & 0o777 == 0o600
        slot = segment.slot(1)
        assert (slot.seat.view[S.PID], slot.seat.real[S.SPAWNED]) == (4711, 5.5)
        assert slot.desk.view[D.SET_ASIDE] == times
        assert not slot.desk.view[D.HOLDS]
        slot.journal.open([b"1-0"])
        slot.journal.open([b"1-0"])
    assert [bytes(segment._view[HEADER_SIZE + at * SLOT_SIZE :][:SLOT_SIZE]) for at in (0, 2)] == neighbours


def test_a_header_that_makes_no_sense_is_mended(segment: Segment) -> None:
    segment.pool.view[P.RELOADS_FAILED] = (1 << 64) - 1
    (words,) = mend_header(segment)
    assert "pool cell" in words
    assert segment.pool.view[P.RELOADS_FAILED] == 0
