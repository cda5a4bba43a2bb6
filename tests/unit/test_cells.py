"""The cells: rows of numbers with room to grow, and a watermark that is never half of two."""

from __future__ import annotations

import pytest
from support_shared import killed_anywhere, shared

from rsq.ipc.cells import (
    CELL,
    EVERYTHING,
    NOTHING,
    D,
    Desk,
    DeskState,
    P,
    Pool,
    PoolState,
    S,
    Seat,
    SeatState,
)
from rsq.ipc.exitcodes import EXITED, Cause, Death, describe
from rsq.ipc.journal import Outcome
from rsq.ipc.ledger import DEAD, C


def test_every_cell_has_room_in_its_row() -> None:
    assert len(P) <= Pool.SIZE
    assert len(D) <= Desk.SIZE
    assert max(S) == S.RESTARTS, "the counters per cause follow the last named cell"
    assert S.RESTARTS + len(Cause) <= Seat.SIZE


def test_numbers_in_shared_memory_are_never_reused() -> None:
    """Yesterday's workers must be understood: whoever changes these changes the segment's version."""
    assert {cause.name: cause.value for cause in Cause} == {
        "UNKNOWN": 0,
        "CLEAN": 1,
        "CRASH": 2,
        "TIMEOUT": 3,
        "SHUTDOWN": 4,
        "ERROR": 5,
        "RECYCLE": 6,
        "RELOAD": 7,
    }
    assert [state.name for state in sorted(SeatState)] == [
        "VACANT",
        "STARTING",
        "RUNNING",
        "DRAINING",
        "BACKOFF",
        "HELD",
        "RETIRED",
    ]
    assert [state.name for state in sorted(DeskState)] == [
        "NONE",
        "BOOTING",
        "IDLE",
        "HANDLING",
        "CONNECTING",
        "DRAINING",
    ]
    assert [state.name for state in sorted(PoolState)] == [
        "GONE",
        "STARTING",
        "RUNNING",
        "RELOADING",
        "STOPPING",
    ]
    dead = [outcome for outcome in sorted(Outcome) if outcome.name.startswith("DEAD_")]
    assert [outcome.name for outcome in dead] == [counter.name for counter in DEAD]
    assert [outcome.value for outcome in dead] == list(range(2, 7))
    assert all(counter in C for counter in DEAD)


def test_a_row_is_the_same_bytes_as_numbers_and_as_doubles() -> None:
    seat = Seat(shared(Seat.SIZE * CELL))
    seat.view[S.PID] = 4711
    seat.real[S.SPAWNED] = 12.5
    assert seat.view[S.PID] == 4711
    assert seat.real[S.SPAWNED] == 12.5
    assert seat.view[S.SPAWNED] == 0x4029000000000000
    assert seat.view[S.STATE] == SeatState.VACANT
    seat.release()
    with pytest.raises(ValueError, match="released"):
        seat.view[S.PID]


def test_a_new_desk_holds_nothing() -> None:
    assert Desk(shared(Desk.SIZE * CELL)).watermark == NOTHING


def test_a_watermark_is_kept() -> None:
    desk = Desk(shared(Desk.SIZE * CELL))
    for mark in ((1526919030474, 55), EVERYTHING, NOTHING, (0, 1)):
        desk.watermark = mark
        assert desk.watermark == mark
    assert all(not cell for at, cell in enumerate(desk.view) if at > D.MARK_B_SEQ or at < D.SIDE)


def test_a_watermark_is_old_or_new_wherever_its_writer_is_killed() -> None:
    raw = shared(Desk.SIZE * CELL)
    seen = set()

    def prepare() -> None:
        Desk(raw).watermark = (100, 1)

    def work() -> None:
        Desk(raw).watermark = (200, 2)

    def check() -> None:
        seen.add(Desk(raw).watermark)

    assert killed_anywhere(prepare, work, check) > 10
    assert seen == {(100, 1), (200, 2)}


@pytest.mark.parametrize(
    ("death", "words", "charges"),
    [
        (Death(Cause.CRASH, 11), "crash: SIGSEGV", True),
        (Death(Cause.CRASH, EXITED + 3), "crash: exit 3", True),
        (Death(Cause.CRASH, 200), "crash: signal 200", True),
        (Death(Cause.TIMEOUT, 9), "timeout", True),
        (Death(Cause.UNKNOWN, 0), "crash: unseen", True),
        (Death(Cause.SHUTDOWN, 9), "crash: SIGKILL", False),
        (Death(Cause.CLEAN, EXITED), "crash: exit 0", False),
    ],
)
def test_a_death_says_why_and_whether_the_entry_is_charged(death: Death, words: str, charges: bool) -> None:
    assert death.words == words
    assert death.charges is charges


def test_a_signal_without_a_name_is_described_by_its_number() -> None:
    assert describe(9) == "SIGKILL"
    assert describe(99) == "signal 99"
