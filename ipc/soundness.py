"""Whether what lies in shared memory can have been written by us: asked by whoever is about to go on with it.

C code of a handler may write anywhere, and a file can be anything. Looked at is each value that steers what
is done next: counts, codes, ids, times, and sums that go on growing. Nothing is repaired value by value: a
slot that is wrong in one place is begun anew as a whole (`Segment.set_aside`); Redis knows what it held.

The caller holds the slot's lock or the pool's, so nobody writes meanwhile.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from itertools import pairwise

from .cells import CHARGED, D, K, S, W
from .exitcodes import Cause
from .journal import JOURNAL_MAX, Batch, Kind, Outcome, Waiting
from .ledger import EVENTS_MAX, INDEX_BITS, TURN_BITS
from .segment import Segment
from .slot import Slot

GROWING_MAX = 1 << 62  # what counts something is below: it can be added to without a thought
_BATCHES_MAX = 1 << (64 - INDEX_BITS - TURN_BITS - 1)  # what a commit has room for
_CODE_BITS = 32  # above an attempt's number: how an entry ended whose letter is not written yet
_AHEAD_S = 60.0
_SECONDS_MAX = 1e12
_ATTEMPTS_MAX = 1 << 31
_ENTRY = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}", re.ASCII)
_DEAD = frozenset(outcome for outcome in Outcome if outcome.name.startswith("DEAD_"))


class Unsound(Exception):
    """The memory of a slot makes no sense; the text says where."""


def go_on_with_memory(work: Callable[[], None]) -> None:
    """Do what goes on with what lies in a slot.

    Raises:
        Unsound: what it has read fails it, though it was looked at before.
    """
    try:
        work()
    except (ValueError, LookupError, OverflowError, TypeError) as error:
        raise Unsound(f"{type(error).__name__}: {error}") from error


def check(slot: Slot) -> None:
    """Look at all that a process in a slot goes on with.

    Raises:
        Unsound: it cannot have been written by us.
    """
    _check_cells(slot)
    _check_ledger(slot)
    for at in range(2):
        _check_bank(slot, at)
    check_waiting(slot.waiting)
    head, tail = slot.pipe.ends
    if not 0 <= head - tail <= GROWING_MAX or head > GROWING_MAX or slot.pipe.dropped > GROWING_MAX:
        raise Unsound(f"pipe from {tail} to {head}")


def mend_header(segment: Segment) -> list[str]:
    """Clear what makes no sense in the cells of the whole pool; return what that was.

    All of them are written anew by a new master and its keeper, but for counters.
    """
    mended = []
    for name, cells in (("pool", segment.pool), ("keep", segment.keep)):
        for at, value in enumerate(cells.view.tolist()):
            real = cells.real[at]
            if name == "keep" and at == K.TOKEN:
                continue  # random: without it the pool would wait until its own lease has run out
            if value > GROWING_MAX and not 0 < abs(real) < _SECONDS_MAX:
                cells.view[at] = 0
                mended.append(f"{name} cell {at}: {value}")
    return mended


def _check_cells(slot: Slot) -> None:
    desk, ward, seat = slot.desk, slot.ward.view, slot.seat.view
    if desk.view[D.RUNNING] > CHARGED + JOURNAL_MAX or desk.view[D.HOLDS] > 1:
        raise Unsound(f"running {desk.view[D.RUNNING]}, holds {desk.view[D.HOLDS]}")
    for cell in (D.HANDLER_S, D.ENTRY_BYTES):
        if not 0 <= desk.real[cell] < _SECONDS_MAX:
            raise Unsound(f"{cell.name} {desk.real[cell]}")
    if desk.view[D.MOST] > _ATTEMPTS_MAX:
        raise Unsound(f"{desk.view[D.MOST]} attempts")
    restarts = seat[S.RESTARTS : S.RESTARTS + len(Cause)]  # what is behind them is a time
    if max(ward[W.HANDED], ward[W.LENT], desk.view[D.EMPTY_READS], *restarts) > GROWING_MAX:
        raise Unsound("a counter of the slot")
    if slot.loans.written > GROWING_MAX:
        raise Unsound(f"{slot.loans.written} loans")


def _check_ledger(slot: Slot) -> None:
    sums, batch, upto = slot.ledger.read()
    if batch > slot.journal.number or upto > JOURNAL_MAX:
        raise Unsound(f"the ledger counts entry {upto} of batch {batch}, of {slot.journal.number}")
    if sums.largest > GROWING_MAX:
        raise Unsound("a counter of the ledger")
    if slot.events.registered >= EVENTS_MAX:
        raise Unsound(f"{slot.events.registered} events")


def _check_bank(slot: Slot, at: int) -> None:
    bank = slot.journal.banks[at]
    number, count, kind = bank.number, bank.count, bank.kind
    if not number:
        return  # empty, or its writer died while it wrote
    if number & 1 != at or number > _BATCHES_MAX or count > JOURNAL_MAX or kind > max(Kind):
        raise Unsound(f"journal bank {at}: batch {number}, {count} entries of kind {kind}")
    batch = bank.read()
    if batch is None or not all(map(_ENTRY.fullmatch, batch.ids)):
        raise Unsound(f"journal bank {at}: an id or an outcome of batch {number}")
    for value in batch.attempts:
        _check_attempt(value, f"journal bank {at}")
    _check_marks(batch, at)


def _check_marks(batch: Batch, at: int) -> None:
    """Marks are set one behind the other, so their times are in order and nothing is behind the first gap."""
    latest = time.monotonic() + _AHEAD_S
    if not all(0 <= mark < latest for mark in batch.marks):
        raise Unsound(f"journal bank {at}: a time of batch {batch.number}")
    if batch.kind is not Kind.RUN:
        return
    done = batch.marks[: batch.started]
    if any(batch.marks[batch.started :]) or any(after < before for before, after in pairwise(done)):
        raise Unsound(f"journal bank {at}: the order of times of batch {batch.number}")


def check_waiting(table: Waiting) -> None:
    """Look at a waiting table alone; see `check`."""
    for entry, attempt, due in table.rows():
        _check_attempt(attempt, "waiting table")
        if math.isnan(due) or due < 0:
            raise Unsound(f"waiting table: entry {entry!r}, due {due}")


def _check_attempt(value: int, where: str) -> None:
    code = value >> _CODE_BITS
    if code and (code > max(Outcome) or Outcome(code) not in _DEAD):
        raise Unsound(f"{where}: an attempt {value:#x}")
