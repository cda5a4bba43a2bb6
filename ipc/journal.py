"""The journal: the flight recorder of a slot. Which entries are fetched, started, done, failed.

Two banks are written in turn, one batch each; a bank is only overwritten once Redis has confirmed
everything that its batch asked for, so whatever is not confirmed can be read here after a crash.

    bank     | number | count | kind | start | 4 spare | marks | attempts | outcomes | ids |

`marks[i]` is the monotonic time at which entry i was started, and by that the end of entry i - 1;
the mark after the last entry is the batch's end. One store per entry therefore says: the one before
is finished, this one runs, since then. An entry is finished in the way its outcome says; the
default, zero, is "done", so that the good way costs nothing more. `Desk.RUNNING` tells whether the
entry with the last mark was really in the hands of user code.

A batch that one call handles (`Kind.CALL`) has two marks: its start at the first entry, its end behind the
last. Its entries have begun together, and each is finished once its outcome is neither OPEN nor SUSPECT.

`number` counts batches for ever and is zero while the bank is being written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import isfinite

from .cells import CELL
from .ledger import INDEX_BITS

JOURNAL_MAX = 1024  # entries in a bank: the upper limit of --batch-max
ID_MAX = 42  # bytes of an entry id (two 20-digit numbers and a dash) and a separator
WAITING_MAX = 4096  # entries that may wait for their retry in one slot before it stops reading
assert JOURNAL_MAX < 1 << INDEX_BITS

_HEAD = 8 * CELL
_MARKS = (JOURNAL_MAX + 1) * CELL
_ATTEMPTS = JOURNAL_MAX * CELL
_OUTCOMES = JOURNAL_MAX
_IDS = JOURNAL_MAX * ID_MAX
BANK_SIZE = (_HEAD + _MARKS + _ATTEMPTS + _OUTCOMES + _IDS + 7) & ~7

_NUMBER, _COUNT, _KIND, _START, _IDS_SIZE = range(5)


class Kind(IntEnum):
    """What a bank's entries are there for."""

    RUN = 0  # to be handled, in this order
    CLAIM = 1  # being taken into held form; nothing is started
    CALL = 2  # to be handled together, by one call


class Outcome(IntEnum):
    """How a finished entry ended."""

    DONE = 0
    WAITING = 1  # failed, and will be tried again: see the waiting table
    DEAD_MAX_ATTEMPTS = 2  # to be dead-lettered, in the order of ledger.DEAD
    DEAD_CRASH = 3
    DEAD_TIMEOUT = 4
    DEAD_DECODE = 5
    DEAD_REJECTED = 6
    LOST = 7  # its payload was deleted from the stream
    HELD_BACK = 8  # not finished after all: it could not be dead-lettered yet
    DUPLICATE = 9  # its handler was not called: another copy of the message had been handled
    IGNORED = 10  # nobody handles its event here
    DEAD_UNKNOWN_EVENT = 11
    OPEN = 12  # of a call: not finished
    SUSPECT = 13  # the same, and the call went wrong, perhaps because of it: to be run alone
    DEFERRED = 14  # not started after all: the circuit breaker of its event is open
    DEAD_BREAKER = 15  # the same, and it is not to wait


_UNFINISHED = (Outcome.OPEN, Outcome.SUSPECT)
_WRAP = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Batch:
    """What a bank says, read as one value.

    Arguments:
        number: counts batches, never zero.
        kind: what the entries are there for.
        ids: entry ids in the order of handling.
        attempts: the number of the attempt that each entry is here for.
        outcomes: how each of the finished entries ended.
        marks: monotonic seconds; one more than entries, zero where nothing happened yet.
    """

    number: int
    kind: Kind
    ids: tuple[bytes, ...]
    attempts: tuple[int, ...]
    outcomes: tuple[Outcome, ...]
    marks: tuple[float, ...]

    @property
    def started(self) -> int:
        """Return how many marks are set: entries before the last mark are finished."""
        return next((at for at, mark in enumerate(self.marks) if not mark), len(self.marks))

    @property
    def ends(self) -> list[Outcome | None]:
        """Return how each entry ended, None where it has not."""
        if self.kind is Kind.CALL:
            return [None if outcome in _UNFINISHED else outcome for outcome in self.outcomes]
        finished = max(0, self.started - 1) if self.kind is Kind.RUN else 0
        return [outcome if at < finished else None for at, outcome in enumerate(self.outcomes)]


class _Bank:
    """The cells of one bank."""

    def __init__(self, raw: memoryview) -> None:
        at = _HEAD
        self.head = raw[:at].cast("Q")
        self.marks = raw[at : at + _MARKS].cast("d")
        at += _MARKS
        self.attempts = raw[at : at + _ATTEMPTS].cast("Q")
        at += _ATTEMPTS
        self.outcomes = raw[at : at + _OUTCOMES]
        at += _OUTCOMES
        self.ids = raw[at : at + _IDS]

    @property
    def number(self) -> int:
        """Return the number of the batch, 0 when there is none."""
        return self.head[_NUMBER]

    @property
    def count(self) -> int:
        """Return how many entries it says to have."""
        return self.head[_COUNT]

    @property
    def kind(self) -> int:
        """Return what it says that they are there for."""
        return self.head[_KIND]

    def read(self) -> Batch | None:
        """Return the bank's batch, None when it holds none or was torn by its writer's death."""
        number, count, kind = self.head[_NUMBER], self.head[_COUNT], self.head[_KIND]
        ids = bytes(self.ids[: min(self.head[_IDS_SIZE], _IDS)]).split()
        # Marks before outcomes, the reverse of the writer: an entry seen as finished has its outcome.
        marks = tuple(self.marks[: count + 1].tolist())
        try:
            batch = Batch(
                number,
                Kind(kind),
                tuple(ids),
                tuple(self.attempts[:count].tolist()),
                tuple(Outcome(code) for code in self.outcomes[:count]),
                marks,
            )
        except ValueError:
            return None
        if not number or len(ids) != count or self.head[_NUMBER] != number:
            return None
        return batch

    def finished(self, batch: int, upto: int) -> tuple[bytes, int] | None:
        """Return what `Journal.finished` does, of this bank alone."""
        number, count, kind = self.head[_NUMBER], min(self.head[_COUNT], JOURNAL_MAX), self.head[_KIND]
        if number < batch or not number or kind not in (Kind.RUN, Kind.CALL):
            return b"", 0
        if kind == Kind.CALL:
            return self._finished_of_call(number, count, upto if number == batch else 0)
        marks = self.marks[: count + 1].tolist()
        started = marks.index(0) if 0 in marks else len(marks)
        first, end = upto if number == batch else 0, max(0, started - 1)
        outcomes, attempts = bytes(self.outcomes[first:end]), self.attempts[first:end].tolist()
        return (outcomes, firsts(outcomes, attempts)) if self.head[_NUMBER] == number else None

    def ended(self) -> tuple[int, list[int], float | None] | None:
        """Return what `Journal.ended` does, of this bank."""
        number, count, kind = self.head[_NUMBER], min(self.head[_COUNT], JOURNAL_MAX), self.head[_KIND]
        since = None
        if kind == Kind.CALL:
            outcomes = bytes(self.outcomes[:count])
            places = [at for at, outcome in enumerate(outcomes) if outcome not in _UNFINISHED]
        elif kind == Kind.RUN:
            marks = self.marks[:count].tolist()
            started = marks.index(0) if 0 in marks else count
            places = list(range(started - 1))
            since = marks[started - 1] if started and isfinite(marks[started - 1]) else 0.0
        else:
            return None
        return (number, places, since) if number and self.head[_NUMBER] == number else None

    def _finished_of_call(self, number: int, count: int, first: int) -> tuple[bytes, int] | None:
        outcomes, attempts = bytes(self.outcomes[:count]), self.attempts[:count].tolist()
        ended = [at for at in range(first, count) if outcomes[at] not in _UNFINISHED]
        over = bytes(outcomes[at] for at in ended)
        found = over, firsts(over, [attempts[at] for at in ended])
        return found if self.head[_NUMBER] == number else None


def firsts(outcomes: bytes, attempts: Sequence[int]) -> int:
    """Return how many of these finished entries have had their first attempt: what was deferred has not."""
    count = attempts.count(1)
    if Outcome.DEFERRED in outcomes:
        count -= sum(
            code == Outcome.DEFERRED and attempt == 1
            for code, attempt in zip(outcomes, attempts, strict=True)
        )
    return count


_ZEROS = memoryview(bytes(_MARKS)).cast("d")
_ONES = memoryview(b"".join((1).to_bytes(CELL, "little") for _ in range(JOURNAL_MAX))).cast("Q")


class Journal:
    """Both banks of a slot. The worker writes; its successor and the master read."""

    def __init__(self, raw: memoryview) -> None:
        self.banks = self._banks = (_Bank(raw[:BANK_SIZE]), _Bank(raw[BANK_SIZE:]))
        self.number = max(bank.head[_NUMBER] for bank in self._banks)

    def open(self, ids: Sequence[bytes], attempts: Sequence[int] | None = None, kind: Kind = Kind.RUN) -> int:
        """Write a batch over the older bank and return its number.

        Arguments:
            ids: at most `JOURNAL_MAX` entry ids.
            attempts: the number of the attempt each is here for; None when it is the first for all.
            kind: what they are there for.
        """
        number = self.number + 1
        bank = self._banks[number & 1]
        head, count = bank.head, len(ids)
        head[_NUMBER] = 0
        text = b" ".join(ids)
        bank.ids[: len(text)] = text
        bank.marks[: count + 1] = _ZEROS[: count + 1]
        bank.outcomes[:count] = bytes([Outcome.OPEN]) * count if kind is Kind.CALL else bytes(count)
        if attempts is None:
            bank.attempts[:count] = _ONES[:count]
        else:
            for at, attempt in enumerate(attempts):
                bank.attempts[at] = attempt
        head[_COUNT], head[_KIND], head[_IDS_SIZE] = count, kind, len(text)
        head[_NUMBER] = number
        self.number = number
        return number

    @property
    def marks(self) -> memoryview[float]:
        """Return the marks of the newest batch; the worker's loop stores into it."""
        return self._banks[self.number & 1].marks

    @property
    def outcomes(self) -> memoryview:
        """Return the outcomes of the newest batch, a byte each."""
        return self._banks[self.number & 1].outcomes

    def batches(self) -> list[Batch]:
        """Return what both banks hold, older first."""
        found = [batch for bank in self._banks if (batch := bank.read()) is not None]
        return sorted(found, key=lambda batch: batch.number)

    def forget(self) -> None:
        """Declare both banks empty: everything they held is confirmed. Numbers go on."""
        self.open(())
        self.open(())

    def place(self) -> tuple[int, float, bytes] | None:
        """Return the place, the start and the id of the entry with the last mark, for readers.

        The place (batch number and index in one number) never repeats, so whoever sees the same
        place twice has seen the same start of the same entry. None when nothing was started.
        """
        newest = max(self._banks, key=lambda bank: bank.head[_NUMBER])
        number, count = newest.head[_NUMBER], min(newest.head[_COUNT], JOURNAL_MAX)
        marks = newest.marks[:count].tolist()
        at = next((at for at in range(count - 1, -1, -1) if marks[at]), None)
        if at is None or not number:
            return None
        ids = bytes(newest.ids[: min(newest.head[_IDS_SIZE], _IDS)]).split()
        if newest.head[_NUMBER] != number:
            return None  # the writer has moved on: what was read is of two batches
        return (number << INDEX_BITS | at) & _WRAP, marks[at], ids[at] if at < len(ids) else b"?"

    def open_ids(self) -> list[bytes]:
        """Return what is not finished of the newest batch, if one call handles it; for readers."""
        batches = self.batches()
        if not batches or batches[-1].kind is not Kind.CALL:
            return []
        return [entry for entry, end in zip(batches[-1].ids, batches[-1].ends, strict=True) if end is None]

    def ended(self) -> tuple[int, list[int], float | None] | None:
        """Return the number of the newest batch, which of its places have ended, and when the next began.

        For readers, while user code runs. The time is monotonic; None for a call, whose entries all run.
        None for the whole when the batch is not there to be handled, or is being written.
        """
        return max(self._banks, key=lambda bank: bank.head[_NUMBER]).ended()

    def together(self) -> int:
        """Return how many entries of the newest batch run at the same time, for readers."""
        newest = max(self._banks, key=lambda bank: bank.head[_NUMBER])
        return min(newest.head[_COUNT], JOURNAL_MAX) if newest.head[_KIND] == Kind.CALL else 1

    def finished(self, batch: int, upto: int) -> tuple[bytes, int] | None:
        """Return which entries are finished but not in the sums yet: their outcomes, a byte each,
        and how many of them were here for their first attempt.

        Arguments:
            batch, upto: the place that the ledger counts up to (see `Ledger.read`).

        None when the writer has changed a bank meanwhile: read the ledger again.
        """
        one, two = (bank.finished(batch, upto) for bank in self._banks)
        if one is None or two is None:
            return None
        return one[0] + two[0], one[1] + two[1]


class Waiting:
    """The waiting table: which failed entries wait for their next attempt, and until when.

        row      | id ms | id seq | attempt | due |       attempt 0: free

    Written before the outcome, so an entry whose outcome says WAITING is always found here. `due` is
    monotonic seconds. It is what keeps a long `Retry(delay=)` over the crash of a neighbour entry.
    """

    SIZE = WAITING_MAX * 4 * CELL

    def __init__(self, raw: memoryview) -> None:
        self._cells = raw.cast("Q")
        self._due = raw.cast("d")
        self._rows: dict[bytes, int] = {}
        self._free: list[int] = []

    def load(self) -> dict[bytes, tuple[int, float]]:
        """Return id -> (next attempt, due), and get ready to write."""
        found: dict[bytes, tuple[int, float]] = {}
        rows: dict[bytes, int] = {}
        free = list(range(WAITING_MAX - 1, -1, -1))
        attempts = self._cells[2::4].tolist()
        if any(attempts):
            free = [row for row in free if not attempts[row]]
            for row, attempt in enumerate(attempts):
                if attempt:
                    entry = b"%d-%d" % (self._cells[4 * row], self._cells[4 * row + 1])
                    found[entry] = (attempt, self._due[4 * row + 3])
                    rows[entry] = row
        self._rows, self._free = rows, free
        return found

    def rows(self) -> Iterator[tuple[tuple[int, int], int, float]]:
        """Yield (id, next attempt, due) of every row that is used, for readers."""
        cells, due = self._cells.tolist(), self._due[3::4].tolist()
        for row, attempt in enumerate(cells[2::4]):
            if attempt:
                yield (cells[4 * row], cells[4 * row + 1]), attempt, due[row]

    def ids(self) -> set[bytes]:
        """Return what waits, for readers."""
        cells = self._cells.tolist()
        rows = zip(cells[::4], cells[1::4], cells[2::4], strict=True)
        return {b"%d-%d" % (ms, seq) for ms, seq, attempt in rows if attempt}

    def due(self, now: float) -> int:
        """Return how many entries wait no longer, at a monotonic time; for readers."""
        rows = zip(self._cells[2::4].tolist(), self._due[3::4].tolist(), strict=True)
        return sum(attempt > 0 and due <= now for attempt, due in rows)

    def __contains__(self, entry: bytes) -> bool:
        """Tell whether an entry waits."""
        return entry in self._rows

    @property
    def free(self) -> int:
        """Return how many more entries may wait; whoever reads new ones must leave room for them."""
        return len(self._free)

    def put(self, entry: bytes, attempt: int, due: float) -> None:
        """Write down that an entry waits."""
        row = self._rows.get(entry)
        if row is None:
            row = self._rows[entry] = self._free.pop()
        ms, _, seq = entry.partition(b"-")
        cells = self._cells
        cells[4 * row + 2] = 0
        cells[4 * row], cells[4 * row + 1] = int(ms), int(seq)
        self._due[4 * row + 3] = due
        cells[4 * row + 2] = attempt

    def drop(self, entry: bytes) -> None:
        """Strike an entry out, if it is there."""
        row = self._rows.pop(entry, None)
        if row is not None:
            self._cells[4 * row + 2] = 0
            self._free.append(row)
