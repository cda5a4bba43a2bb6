"""Circuit breakers in a slot: what its worker suffers, and what its keeper says that it may do.

    Strain    the worker's  | registered | rows | wants | asked | ended | how |  then per breaker a row:
                            | name, 64 bytes | failures | window | reset | successes | limit | failed |
    Switches  the keeper's  | registered | granted | settled |  then per breaker a row:
                            | phase | due | opened | told |

Row n of the one belongs to row n of the other. A worker registers its breakers when it boots, for its code
may be newer than that of its neighbours; what the keeper has written for a registration before is not for it.
What a keeper has told the fleet (`told` of `failed`, the end of the probe `settled`) is written here and
not kept in its memory: its successor goes on from there.

A probe is the one entry that may run while a breaker is half open. The worker counts `asked` up and says
for which row; the keeper answers by the same number in `granted`; the worker runs one entry, and says how
it ended by the same number in `ended`. No number comes twice in a slot's life, so nobody takes an old
answer for a new one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, auto

from .cells import CELL

ROWS = 32
NAME_MAX = 64  # bytes of an event's name
_WRAP = 2**64 - 1


class Switch(IntEnum):
    """What a breaker does, as the keeper of the pool has last heard."""

    CLOSED = 0  # entries run
    OPEN = auto()  # none runs
    READY = auto()  # none runs, and a probe may be asked for
    UNKNOWN = auto()  # none runs until the keeper has said something


class Shown(IntEnum):
    """The phase of a breaker, for readers."""

    CLOSED = 0
    OPEN = auto()
    HALF_OPEN = auto()


@dataclass(frozen=True, slots=True)
class State:
    """A breaker, as a keeper last saw it in the fleet.

    Arguments:
        shown: its phase.
        due: from when on a probe may be asked for, monotonic seconds; infinity: not before it is closed.
        opened: how often it has opened, in the whole fleet, ever.
    """

    shown: Shown = Shown.CLOSED
    due: float = math.inf
    opened: int = 0


class How(IntEnum):
    """How a probe ended."""

    NOT_RUN = 0
    WELL = auto()
    BADLY = auto()


@dataclass(frozen=True, slots=True)
class Row:
    """A breaker that a worker has registered: its event's name, its limits as in `worker.breaker.Limits`.

    `limit_ms` is how long the end of a probe is waited for at most.
    """

    name: bytes
    failures: int
    window_ms: int
    reset_ms: int
    successes: int
    limit_ms: int


class _S(IntEnum):
    REGISTERED = 0
    ROWS = auto()
    WANTS = auto()
    ASKED = auto()
    ENDED = auto()
    HOW = auto()


class _R(IntEnum):
    NAME = 0
    FAILURES = NAME_MAX // CELL
    WINDOW = auto()
    RESET = auto()
    SUCCESSES = auto()
    LIMIT = auto()
    FAILED = auto()


class _T(IntEnum):
    REGISTERED = 0
    GRANTED = auto()
    SETTLED = auto()


class _Q(IntEnum):
    SHOWN = 0
    DUE = auto()  # real
    OPENED = auto()
    TOLD = auto()


_HEAD = 8
_ROW = 16
assert max(len(_S), len(_T)) <= _HEAD
assert _R.FAILED < _ROW


class Strain:
    """The worker's part."""

    SIZE = (_HEAD + ROWS * _ROW) * CELL

    def __init__(self, raw: memoryview) -> None:
        self._raw, self._cells = raw, raw.cast("Q")

    # For the worker

    def register(self, rows: Sequence[Row]) -> None:
        """Say which breakers there are; whatever was registered before is over.

        Raises:
            ValueError: there are too many, or a name is too long.
        """
        if len(rows) > ROWS:
            raise ValueError(f"{len(rows)} events have a breaker, {ROWS} can")
        for row in rows:
            if not 0 < len(row.name) <= NAME_MAX:
                raise ValueError(
                    f"an event with a breaker needs a name of 1 to {NAME_MAX} bytes: {row.name!r}"
                )
        cells = self._cells
        cells[_S.ROWS] = 0  # readers see nothing while it changes
        for number, row in enumerate(rows):
            at = _HEAD + number * _ROW
            self._raw[at * CELL : at * CELL + NAME_MAX] = row.name.ljust(NAME_MAX, b"\0")
            cells[at + _R.FAILURES], cells[at + _R.WINDOW] = row.failures, row.window_ms
            cells[at + _R.RESET], cells[at + _R.SUCCESSES] = row.reset_ms, row.successes
            cells[at + _R.LIMIT] = row.limit_ms
        cells[_S.REGISTERED] = (cells[_S.REGISTERED] + 1) & _WRAP
        cells[_S.ROWS] = len(rows)

    def failed(self, row: int, count: int = 1) -> None:
        """Count failures of handlers; sums that are never taken back."""
        at = _HEAD + row * _ROW + _R.FAILED
        self._cells[at] = (self._cells[at] + count) & _WRAP

    def ask(self, row: int) -> int:
        """Ask whether an entry may be run as a probe; return the number of the question."""
        cells = self._cells
        cells[_S.WANTS] = row
        cells[_S.ASKED] = number = (cells[_S.ASKED] + 1) & _WRAP
        return number

    def end(self, number: int, how: How) -> None:
        """Say how a probe ended."""
        self._cells[_S.HOW] = how
        self._cells[_S.ENDED] = number

    # For everybody

    @property
    def registered(self) -> int:
        """Return the number of this registration; 0 when there never was one."""
        return self._cells[_S.REGISTERED]

    def rows(self) -> list[Row]:
        """Return what is registered; nothing while that changes."""
        cells = self._cells
        registered, count = cells[_S.REGISTERED], min(cells[_S.ROWS], ROWS)
        found = []
        for number in range(count):
            at = _HEAD + number * _ROW
            name = bytes(self._raw[at * CELL : at * CELL + NAME_MAX]).rstrip(b"\0")
            found.append(Row(name, *cells[at + _R.FAILURES : at + _R.FAILED]))
        return found if (cells[_S.REGISTERED], cells[_S.ROWS]) == (registered, count) else []

    def failures(self, row: int) -> int:
        """Return how many failures were counted in this row, ever, whatever was registered there."""
        return self._cells[_HEAD + row * _ROW + _R.FAILED]

    @property
    def question(self) -> tuple[int, int]:
        """Return the number of the last question, and the row that it is about."""
        return self._cells[_S.ASKED], min(self._cells[_S.WANTS], ROWS - 1)

    @property
    def answer(self) -> tuple[int, How]:
        """Return the number of the probe that ended last, and how."""
        number, how = self._cells[_S.ENDED], self._cells[_S.HOW]
        return number, How(how) if how <= max(How) else How.NOT_RUN


class Switches:
    """The keeper's part."""

    SIZE = (_HEAD + ROWS * len(_Q)) * CELL

    def __init__(self, raw: memoryview) -> None:
        self._cells, self._real = raw.cast("Q"), raw.cast("d")

    # For the keeper

    def set(self, registered: int, states: Sequence[State]) -> None:
        """Say what each breaker of a registration does."""
        cells = self._cells
        if cells[_T.REGISTERED] != registered:
            cells[_T.REGISTERED] = 0
        for row, state in enumerate(states):
            at = _at(row)
            self._real[at + _Q.DUE] = state.due  # before the phase: an open one is never due too soon
            cells[at + _Q.SHOWN], cells[at + _Q.OPENED] = state.shown, state.opened
        cells[_T.REGISTERED] = registered

    def grant(self, number: int) -> None:
        """Let a slot run the probe that it asked for by this number."""
        self._cells[_T.GRANTED] = number

    def settle(self, number: int) -> None:
        """Note that the fleet knows how a probe ended."""
        self._cells[_T.SETTLED] = number

    def tell(self, row: int, failures: int) -> None:
        """Note how many of a row's failures the fleet knows."""
        self._cells[_at(row) + _Q.TOLD] = failures

    def told(self, row: int) -> int:
        """Return what was noted by `tell`."""
        return self._cells[_at(row) + _Q.TOLD]

    @property
    def settled(self) -> int:
        """Return the number of the last probe of which the fleet knows how it ended."""
        return self._cells[_T.SETTLED]

    # For everybody

    @property
    def registered(self) -> int:
        """Return the registration that the keeper has spoken about; 0 for none."""
        return self._cells[_T.REGISTERED]

    def is_closed(self, registered: int, row: int) -> bool:
        """Tell whether entries run."""
        return self._cells[_T.REGISTERED] == registered and not self._cells[_at(row) + _Q.SHOWN]

    def get(self, registered: int, row: int, now: float | None = None) -> Switch:
        """Return what a breaker does at a monotonic time, None for the present.

        UNKNOWN until the keeper has spoken about this registration.
        """
        if self._cells[_T.REGISTERED] != registered:
            return Switch.UNKNOWN
        if self._cells[_at(row) + _Q.SHOWN] == Shown.CLOSED:
            return Switch.CLOSED
        now = time.monotonic() if now is None else now
        return Switch.READY if now >= self._real[_at(row) + _Q.DUE] else Switch.OPEN

    def due(self, row: int) -> float:
        """Return from when on a probe may be asked for, in monotonic seconds."""
        return self._real[_at(row) + _Q.DUE]

    def state(self, row: int) -> State:
        """Return all that was said about a breaker, for readers."""
        at = _at(row)
        shown, due = self._cells[at + _Q.SHOWN], self._real[at + _Q.DUE]
        return State(Shown(shown) if shown <= max(Shown) else Shown.OPEN, due, self._cells[at + _Q.OPENED])

    @property
    def granted(self) -> int:
        """Return the number of the probe that may run."""
        return self._cells[_T.GRANTED]


def _at(row: int) -> int:
    return _HEAD + row * len(_Q)
