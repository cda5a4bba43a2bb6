"""The backlog: recovery that dies, or loses its line, in the middle comes to the same end the next time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from support_shared import killed_anywhere, shared

from rsq.ipc.cells import D, S
from rsq.ipc.exitcodes import Cause
from rsq.ipc.journal import Kind, Outcome
from rsq.ipc.ledger import C
from rsq.ipc.slot import SLOT_SIZE, Slot
from rsq.streams.connection import Target
from rsq.streams.group import Group
from rsq.streams.wire import Lost
from rsq.worker.backlog import Backlog
from rsq.worker.batcher import Batcher
from rsq.worker.handler import Handler
from rsq.worker.recovery import to_bury
from rsq.worker.router import Route
from rsq.worker.shelf import Letter, Shelf
from rsq.worker.spec import Reading, Retries, Source, Spec, Work
from rsq.worker.stories import Stories
from rsq.worker.ways import Ways

DONE, CULPRIT, NEXT = b"1-0", b"2-0", b"3-0"
SPEC = Spec(
    Source(Target("redis://", "redis://"), "events", "workers", "test", "0", "events:dlq"),
    Work("app:handle", "json", False, True),
    Retries(2, 0.0, 0.0),
    Reading(500, 0.05, 5.0, False),
    0.0,
    0.0,
)

WAYS = Ways(Handler("app:handle", (Route((), print),)), SPEC)


class Line:
    """A session on which all is well, until it breaks."""

    term = 0
    consumer_was_missing = False

    def __init__(self, pending: dict[bytes, int], works_for: int = 1000) -> None:
        self.pending, self.works_for = pending, works_for

    def owe(self, *_: object) -> None:
        pass

    owe_ack = owe

    def must(self, _command: bytes) -> Any:
        return [[entry, b"test:0", 0, counter] for entry, counter in self.pending.items()]

    def call(self, *commands: bytes) -> list[Any]:
        self.settle()
        return [self._reply(command) for command in commands]

    def _reply(self, command: bytes) -> Any:
        if b"HMGET" in command:
            return Lost("nothing is kept there")
        if b"XPENDING" in command and command.endswith(b"\r\ntest:0\r\n"):
            return self.must(command)
        return []

    def settle(self) -> None:
        self.works_for -= 1
        if self.works_for < 0:
            raise Lost("the line is cut")


class Desk:
    """A runner that notes what it is told to do."""

    def __init__(self) -> None:
        self.buried: list[bytes] = []

    def book_call(self, *_: object) -> None:
        pass

    def report(self, *_: object) -> None:
        pass

    def earlier(self, _entries: object) -> dict[bytes, int]:
        return {}

    def count(self) -> None:
        pass

    def row_of(self, _entry: object) -> int:
        return 0

    def keep(self, letter: Letter) -> None:
        pass

    def bury(self, letters: dict[int, Letter]) -> None:
        self.buried += [letter.entry for letter in letters.values()]

    def book(
        self, number: int, _ids: object, _attempts: object, _start: int, end: int, _rows: object
    ) -> None:
        pass


def _backlog(raw: memoryview, line: Line) -> tuple[Backlog, Shelf, Slot]:
    slot = Slot(raw)
    shelf = Shelf(slot.waiting)
    group = Group("events", "workers", "test:0")
    return (
        Backlog(
            WAYS,
            slot,
            group,
            cast("Any", line),
            shelf,
            cast("Any", Desk()),
            Batcher({}),
            Stories(Path("/nowhere/stories")),
        ),
        shelf,
        slot,
    )


def _crash(raw: memoryview, attempt: int) -> None:
    """Leave what a worker leaves that was killed in the handler of the second of three entries."""
    raw[:] = bytes(SLOT_SIZE)
    slot = Slot(raw)
    slot.seat.view[S.CAUSE], slot.seat.view[S.DETAIL] = Cause.CRASH, 11
    slot.desk.view[D.HOLDS] = 1
    slot.journal.open([DONE, CULPRIT, NEXT], [1, attempt, 1])
    slot.journal.marks[0], slot.journal.marks[1] = 1.0, 2.0
    slot.desk.view[D.RUNNING] = 1


@pytest.mark.parametrize("attempt", [1, 2])
def test_the_culprit_alone_is_charged_wherever_its_successor_is_killed(attempt: int) -> None:
    raw = shared(SLOT_SIZE)
    pending = {DONE: 1, CULPRIT: attempt, NEXT: 1}
    dying: Backlog

    def prepare() -> None:
        nonlocal dying
        _crash(raw, attempt)
        dying, _, slot = _backlog(raw, Line(pending))
        slot.waiting.load()

    def work() -> None:
        dying._charge_culprit()

    def check() -> None:
        backlog, shelf, slot = _backlog(raw, Line(pending))
        backlog.recover()
        (batch,) = slot.journal.batches()
        assert slot.desk.view[D.RUNNING] == 0
        assert batch.started == 3, "done and charged, the third not started"
        assert list(backlog.todo) == [(NEXT, 1)]
        assert batch.outcomes[1] is (Outcome.WAITING if attempt == 1 else Outcome.DEAD_CRASH)
        assert shelf.ids == ({CULPRIT} if attempt == 1 else set())

    assert killed_anywhere(raw, prepare, work, check) > 2


def test_the_suspects_of_a_call_are_known_wherever_their_successor_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was marked is done; all others run alone, and nobody is charged."""
    monkeypatch.setattr(
        "rsq.worker.backlog.log.warning", lambda *_: None
    )  # its steps are not always the same
    raw = shared(SLOT_SIZE)
    pending = {DONE: 1, CULPRIT: 2, NEXT: 1}
    dying: Backlog

    def prepare() -> None:
        nonlocal dying
        raw[:] = bytes(SLOT_SIZE)
        slot = Slot(raw)
        slot.seat.view[S.CAUSE], slot.seat.view[S.DETAIL] = Cause.CRASH, 11
        slot.desk.view[D.HOLDS] = 1
        slot.journal.open([DONE, CULPRIT, NEXT], [1, 2, 1], Kind.CALL)
        slot.journal.marks[0] = 1.0
        slot.desk.view[D.RUNNING] = 1
        slot.journal.outcomes[0] = Outcome.DONE
        dying, _, slot = _backlog(raw, Line(pending))
        slot.waiting.load()

    def work() -> None:
        dying._charge_culprit()

    def check() -> None:
        backlog, shelf, slot = _backlog(raw, Line(pending))
        backlog.recover()
        assert slot.desk.view[D.RUNNING] == 0
        assert list(backlog.todo) == [(CULPRIT, 2), (NEXT, 1)]
        assert backlog._batcher.alone == {CULPRIT, NEXT}
        assert shelf.ids == set()

    assert killed_anywhere(raw, prepare, work, check) > 2


def test_a_line_that_breaks_in_the_middle_doubles_nothing() -> None:
    raw = shared(SLOT_SIZE)
    _crash(raw, 1)
    line = Line({DONE: 1, CULPRIT: 1, NEXT: 1}, works_for=1)
    backlog, shelf, slot = _backlog(raw, line)
    with pytest.raises(Lost):
        backlog.recover()
    line.works_for = 1000
    backlog.recover()
    assert list(backlog.todo) == [(NEXT, 1)]
    assert [due.entry for due in shelf.take(1e12, 10)] == [CULPRIT]
    assert slot.ledger.sums.counters[C.RECOVERED] == 2


def test_a_letter_that_was_written_unheard_is_still_counted() -> None:
    """It goes to the shelf again, where the next try finds that there is nothing left to do but count."""
    raw = shared(SLOT_SIZE)
    slot = Slot(raw)
    slot.desk.view[D.HOLDS] = 1
    slot.waiting.load()
    slot.journal.open([CULPRIT], [2])
    slot.journal.marks[0], slot.journal.marks[1] = 1.0, 2.0
    slot.journal.outcomes[0] = Outcome.HELD_BACK
    slot.waiting.put(CULPRIT, to_bury(2, Outcome.DEAD_MAX_ATTEMPTS), 3.0)
    backlog, shelf, _ = _backlog(raw, Line({}))
    backlog.recover()
    (due,) = shelf.take(1e12, 10)
    assert due.letter is not None
    assert (due.letter.entry, due.letter.outcome) == (CULPRIT, Outcome.DEAD_MAX_ATTEMPTS)


def test_a_letter_that_the_journal_counts_is_not_counted_twice() -> None:
    raw = shared(SLOT_SIZE)
    slot = Slot(raw)
    slot.desk.view[D.HOLDS] = 1
    slot.waiting.load()
    slot.journal.open([CULPRIT], [2])
    slot.journal.marks[0], slot.journal.marks[1] = 1.0, 2.0
    slot.journal.outcomes[0] = Outcome.DEAD_MAX_ATTEMPTS
    slot.waiting.put(CULPRIT, to_bury(2, Outcome.DEAD_MAX_ATTEMPTS), 3.0)
    backlog, shelf, _ = _backlog(raw, Line({}))
    backlog.recover()
    assert not shelf.take(1e12, 10)
    assert slot.waiting.load() == {}
