"""The cells: rows of numbers with room to grow."""

from __future__ import annotations

import pytest
from support_shared import shared

from rsq.ipc.cells import (
    CELL,
    D,
    Desk,
    DeskState,
    K,
    Keep,
    P,
    Part,
    Pool,
    PoolState,
    S,
    Seat,
    SeatState,
    Swept,
    W,
    Ward,
    Why,
)
from rsq.ipc.exitcodes import EXITED, Cause, Death, describe
from rsq.ipc.journal import Outcome
from rsq.ipc.ledger import DEAD, C


def test_every_cell_has_room_in_its_row() -> None:
    assert P.SCALED + 2 * len(Why) <= P.EXPORTER_LOST_LINES
    assert max(P) < Pool.SIZE
    assert max(D) < Desk.SIZE
    assert len(W) <= Ward.SIZE
    assert K.SWEPT + len(Swept) == K.ERRORS
    assert K.ERRORS + len(Part) <= K.LOST_LINES < Keep.SIZE
    assert S.RESTARTS + len(Cause) <= S.DRAINS_AT < Seat.SIZE
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
        "STUCK": 8,
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
        "STANDING_BY",
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
    assert [outcome.value for outcome in dead] == [2, 3, 4, 5, 6, 11, 15]
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
    assert not Desk(shared(Desk.SIZE * CELL)).view[D.HOLDS]


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
