"""The ledger: what a slot has done, ever, exactly. A successor goes on counting in it.

The numbers change together or not at all: they are written to the bank that nobody reads, then one
store of the commit cell makes that bank the valid one and says up to which entry of the journal it
counts. A worker killed at any instant leaves either the old sums or the new, and its successor
knows which finished entries are not in them yet.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from enum import IntEnum, auto

from .cells import CELL

EVENTS_MAX = 31  # rows of handler seconds beside row 0; the last one is shared by late-comers
EVENT_NAME_MAX = 64
RATE_SECONDS = 64
INDEX_BITS = 12  # of a place in a journal bank
TURN_BITS = 10  # of a commit: counts commits, so that a reader is not fooled by two of the same place

_LOW = (0.0001, 0.0005)
_MID = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
HANDLER_BOUNDS = (*_LOW, *_MID)
WAIT_BOUNDS = (*_MID, 1800.0, 3600.0)
BATCH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class C(IntEnum):
    """Counters of a ledger: sums over the whole life of the slot."""

    READ = 0  # entries delivered to the slot for the first time
    HANDLED = auto()  # handler returned; acknowledged or about to be
    FAILED = auto()  # attempts that raised, crashed or ran too long
    RETRIED = auto()  # failures that get another attempt
    RECOVERED = auto()  # entries taken over from a predecessor, not counting finished ones
    LOST = auto()  # pending entries whose payload was deleted from the stream
    REDIS_ERRORS = auto()
    RECONNECTS = auto()
    GROUPS_RECREATED = auto()
    DEAD_MAX_ATTEMPTS = auto()
    DEAD_CRASH = auto()
    DEAD_TIMEOUT = auto()
    DEAD_DECODE = auto()
    DEAD_REJECTED = auto()
    COMMANDS = auto()  # commands sent to Redis
    BATCHES = auto()
    DUPLICATES = auto()  # entries acknowledged without a call: another copy had been handled
    IGNORED = auto()  # entries of events that nobody handles here; acknowledged
    DEAD_UNKNOWN_EVENT = auto()
    DEFERRED = auto()  # times that an entry was not started because of its event's circuit breaker
    DEAD_BREAKER = auto()


DEAD = (
    C.DEAD_MAX_ATTEMPTS,
    C.DEAD_CRASH,
    C.DEAD_TIMEOUT,
    C.DEAD_DECODE,
    C.DEAD_REJECTED,
    C.DEAD_UNKNOWN_EVENT,
    C.DEAD_BREAKER,
)


class Histogram:
    """A row of cells: one per bucket, the last unbounded, then the sum in units of 1/scale."""

    def __init__(self, cells: memoryview[int], bounds: tuple[float, ...], scale: float) -> None:
        self.cells, self.bounds, self.scale = cells, bounds, scale

    @staticmethod
    def size(bounds: tuple[float, ...]) -> int:
        """Return how many cells a histogram over these bounds takes."""
        return len(bounds) + 2

    def add(self, values: Sequence[float]) -> None:
        """Count values, in the unit of the bounds. Cheap when most fall into the first bucket."""
        cells, bounds = self.cells, self.bounds
        first = bounds[0]
        rest = [value for value in values if value > first]
        cells[0] += len(values) - len(rest)
        for value in rest:
            cells[bisect_left(bounds, value)] += 1
        self._sum(sum(values))

    def add_between(self, low: float, high: float, count: int, total: float) -> bool:
        """Count values of which only range and sum are known; False when they may be in two buckets."""
        bucket = bisect_left(self.bounds, low)
        if low < 0 or bucket != bisect_left(self.bounds, high):
            return False
        self.cells[bucket] += count
        self._sum(total)
        return True

    def read(self) -> tuple[list[int], float]:
        """Return the counts per bucket (the last one unbounded) and the sum."""
        numbers = self.cells.tolist()
        return numbers[:-1], numbers[-1] / self.scale

    def _sum(self, total: float) -> None:
        self.cells[-1] = (self.cells[-1] + max(0, round(total * self.scale))) & _WRAP


_WRAP = 2**64 - 1
_NANO, _MICRO = 1e9, 1e6  # handler seconds; queue wait, which may be hours for each of a billion entries
_WAIT_AT = 32
_BATCH_AT = _WAIT_AT + Histogram.size(WAIT_BOUNDS)
_HANDLER_AT = _BATCH_AT + Histogram.size(BATCH_BOUNDS)
_HANDLER_CELLS = Histogram.size(HANDLER_BOUNDS)
BANK_CELLS = _HANDLER_AT + (EVENTS_MAX + 1) * _HANDLER_CELLS
assert len(C) <= _WAIT_AT


class Sums:
    """One consistent copy of a ledger's numbers."""

    def __init__(self, bank: memoryview) -> None:
        self.counters = bank
        self.wait = Histogram(bank[_WAIT_AT:_BATCH_AT], WAIT_BOUNDS, _MICRO)
        self.batch = Histogram(bank[_BATCH_AT:_HANDLER_AT], BATCH_BOUNDS, 1)
        self._bank = bank

    @property
    def largest(self) -> int:
        """Return the largest number, without the sums of histograms, which wrap around."""
        rows = [self.counters[:_WAIT_AT].tolist(), self.wait.read()[0], self.batch.read()[0]]
        return max(map(max, [*rows, *(row for row, _ in self.handlers())]))

    def handler(self, row: int) -> Histogram:
        """Return the histogram of handler seconds of one event's row."""
        at = _HANDLER_AT + row * _HANDLER_CELLS
        return Histogram(self._bank[at : at + _HANDLER_CELLS], HANDLER_BOUNDS, _NANO)

    def handlers(self) -> Iterator[tuple[list[int], float]]:
        """Yield what `read` of each event's row would say, for all rows at once."""
        cells = self._bank[_HANDLER_AT:].tolist()
        for at in range(0, len(cells), _HANDLER_CELLS):
            end = at + _HANDLER_CELLS - 1
            yield cells[at:end], cells[end] / _NANO


class Ledger:
    """What a slot has done, in two banks of which one is valid."""

    SIZE = 1 + 2 * BANK_CELLS

    def __init__(self, raw: memoryview) -> None:
        cells = raw.cast("Q")
        self._commit = cells[:1]
        self._banks = (cells[1 : 1 + BANK_CELLS], cells[1 + BANK_CELLS : 1 + 2 * BANK_CELLS])
        self._work = memoryview(bytearray(BANK_CELLS * CELL)).cast("Q")
        self.sums = Sums(self._work)

    def load(self) -> tuple[int, int]:
        """Go on from what is committed. Return which journal batch it counts, and up to which entry."""
        commit = self._commit[0]
        self._work[:] = self._banks[commit & 1]
        return self._place(commit)

    def commit(self, batch: int, upto: int) -> None:
        """Publish the working sums, as those that count the batch up to (not including) an entry."""
        turn = (self._commit[0] + 1) & ((1 << TURN_BITS) - 1)
        self._banks[turn & 1][:] = self._work
        self._commit[0] = (batch << INDEX_BITS | upto) << TURN_BITS | turn

    def publish(self) -> None:
        """Publish the working sums as they are; they count the journal up to where they did before."""
        self.commit(*self._place(self._commit[0]))

    def read(self) -> tuple[Sums, int, int]:
        """Return a consistent copy and its place, while the writer goes on."""
        while True:
            commit = self._commit[0]
            copy = memoryview(bytearray(self._banks[commit & 1].tobytes())).cast("Q")
            if self._commit[0] == commit:
                return Sums(copy), *self._place(commit)

    @staticmethod
    def _place(commit: int) -> tuple[int, int]:
        place = commit >> TURN_BITS
        return place >> INDEX_BITS, place & (1 << INDEX_BITS) - 1


class Rates:
    """Entries in and out per second, for the last minute: (second, in, out) in a ring."""

    SIZE = 3 * RATE_SECONDS

    def __init__(self, raw: memoryview) -> None:
        self._cells = raw.cast("Q")

    def add(self, now: float, came: int, went: int) -> None:
        """Count at a monotonic time in seconds."""
        second = int(now)
        at = 3 * (second % RATE_SECONDS)
        cells = self._cells
        if cells[at] != second:
            cells[at + 1] = cells[at + 2] = 0
            cells[at] = second
        cells[at + 1] += came
        cells[at + 2] += went

    def last_minute(self, now: float | None = None, seconds: int = 60) -> tuple[int, int]:
        """Return how many came in and went out in the 60 s, or fewer, up to now."""
        newest = int(time.monotonic() if now is None else now)
        rows = self._cells.tolist()
        fresh = [at for at in range(0, len(rows), 3) if newest - seconds < rows[at] <= newest]
        return sum(rows[at + 1] for at in fresh), sum(rows[at + 2] for at in fresh)


class Events:
    """Which event name has which row of handler histograms. Row 0 is for entries without one."""

    SIZE = 1 + EVENTS_MAX * EVENT_NAME_MAX // CELL
    OTHER = EVENTS_MAX

    def __init__(self, raw: memoryview) -> None:
        self._count = raw[:CELL].cast("Q")
        self._names = raw[CELL:]
        self._rows: dict[bytes, int] = {name: row for row, name in enumerate(self._read(), 1)}

    @property
    def registered(self) -> int:
        """Return how many names there are."""
        return self._count[0]

    def row(self, event: bytes) -> int:
        """Return an event's row, giving it one when there is room; for the writer only."""
        row = self._rows.get(event)
        if row is None:
            row = self._register(event)
        return row

    def names(self) -> list[str]:
        """Return the names of row 1 and following."""
        return [name.decode("utf-8", "backslashreplace") for name in self.raw_names()]

    def raw_names(self) -> list[bytes]:
        """Return the same as bytes."""
        return list(self._read())

    def _register(self, event: bytes) -> int:
        short = event[:EVENT_NAME_MAX]
        row = self._rows.get(short)
        if row is None:
            count = self._count[0]
            if count + 1 >= self.OTHER:
                return self.OTHER  # not remembered: a stream of ever new names must not grow us
            self._names[count * EVENT_NAME_MAX : (count + 1) * EVENT_NAME_MAX] = short.ljust(
                EVENT_NAME_MAX, b"\0"
            )
            self._count[0] = count + 1
            row = count + 1
        if len(self._rows) < 4 * EVENTS_MAX:
            self._rows[event] = self._rows[short] = row
        return row

    def _read(self) -> Iterator[bytes]:
        size = EVENT_NAME_MAX * min(self._count[0], EVENTS_MAX - 1)
        names = self._names[:size].tobytes()
        for at in range(0, size, EVENT_NAME_MAX):
            yield names[at : at + EVENT_NAME_MAX].rstrip(b"\0")
