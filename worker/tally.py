"""The tally: from a journal's marks and outcomes to the ledger's numbers.

The worker counts a batch here after running it, its successor counts what the worker could not,
and a reader of the segment what nobody has counted yet: one rule for all three.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from operator import sub
from typing import cast

import orjson

from ..ipc.journal import Outcome
from ..ipc.ledger import HANDLER_BOUNDS, C, Ledger, Sums

_DEAD = {
    Outcome.DEAD_MAX_ATTEMPTS: (C.FAILED, C.DEAD_MAX_ATTEMPTS),
    Outcome.DEAD_CRASH: (C.FAILED, C.DEAD_CRASH),
    Outcome.DEAD_TIMEOUT: (C.FAILED, C.DEAD_TIMEOUT),
    Outcome.DEAD_DECODE: (C.DEAD_DECODE,),
    Outcome.DEAD_REJECTED: (C.DEAD_REJECTED,),
    Outcome.WAITING: (C.FAILED, C.RETRIED),
    Outcome.LOST: (C.LOST,),
    Outcome.DUPLICATE: (C.DUPLICATES,),
    Outcome.HELD_BACK: (),
    Outcome.OPEN: (),
    Outcome.SUSPECT: (),
    Outcome.IGNORED: (C.IGNORED,),
    Outcome.DEAD_UNKNOWN_EVENT: (C.DEAD_UNKNOWN_EVENT,),
    Outcome.DONE: (C.HANDLED,),
    Outcome.DEFERRED: (C.DEFERRED,),
    Outcome.DEAD_BREAKER: (C.DEAD_BREAKER,),
}


_STAY = (Outcome.WAITING, Outcome.HELD_BACK, Outcome.OPEN, Outcome.SUSPECT, Outcome.DEFERRED)
_ENDS = (
    C.HANDLED,
    C.FAILED,
    C.DEAD_DECODE,
    C.DEAD_REJECTED,
    C.LOST,
    C.DUPLICATES,
    C.IGNORED,
    C.DEAD_UNKNOWN_EVENT,
    C.DEAD_BREAKER,
)


def count_outcomes(counters: memoryview[int], outcomes: bytes, firsts: int) -> int:
    """Add finished entries to the counters, and return how many of them left the slot.

    Arguments:
        counters: of a ledger.
        outcomes: one byte per finished entry.
        firsts: how many of them had their first attempt.
    """
    counters[C.READ] += firsts
    if not any(outcomes):
        counters[C.HANDLED] += len(outcomes)
        return len(outcomes)
    stayed = 0
    for code in outcomes:
        for counter in _DEAD[Outcome(code)]:
            counters[counter] += 1
        stayed += code in _STAY
    return len(outcomes) - stayed


def count_times(
    sums: Sums, marks: Sequence[float], rows: Sequence[int] | None, outcomes: bytes = b""
) -> None:
    """Add the handler seconds of finished entries; what was deferred had no handler.

    Arguments:
        sums: of a ledger.
        marks: monotonic starts, and the end of the last: one more than entries.
        rows: the histogram row of each entry's event; None when none has an event.
        outcomes: of the entries, needed where some were deferred.
    """
    ends = marks[1:]
    if Outcome.DEFERRED in outcomes:
        called = [at for at, code in enumerate(outcomes) if code != Outcome.DEFERRED]
        for at in called:
            sums.handler(0 if rows is None else rows[at]).add([ends[at] - marks[at]])
        return
    if rows is None and max(map(sub, ends, marks), default=0.0) <= HANDLER_BOUNDS[0]:
        sums.handler(0).add_between(0.0, 0.0, len(ends), marks[-1] - marks[0])
        return
    seconds = list(map(sub, ends, marks))
    if rows is None:
        sums.handler(0).add(seconds)
        return
    for row in set(rows):
        sums.handler(row).add([value for value, own in zip(seconds, rows, strict=True) if own == row])


def count_waits(
    sums: Sums, ids: Sequence[bytes], starts: Sequence[float], epoch_s: float, *, in_order: bool = True
) -> None:
    """Add the queue wait, from entry id time to start, of entries in their first attempt.

    Arguments:
        sums: of a ledger.
        ids: entry ids.
        starts: their monotonic starts.
        epoch_s: what to add to a start to get seconds since the epoch.
        in_order: the ids are in the order of the stream, as a read brings them; what is claimed may not be.
    """
    if not ids:
        return
    came = times(ids) if in_order else [int(entry.partition(b"-")[0]) for entry in ids]
    low = starts[0] + epoch_s - came[-1] / 1000
    high = starts[-1] + epoch_s - came[0] / 1000
    total = sum(starts) + len(ids) * epoch_s - sum(came) / 1000
    if not in_order or not sums.wait.add_between(low, high, len(ids), total):
        sums.wait.add([max(0.0, start + epoch_s - ms / 1000) for start, ms in zip(starts, came, strict=True)])


def times(ids: Sequence[bytes]) -> list[int]:
    """Return the milliseconds of entry ids that are in the order of the stream."""
    first, last = (entry.partition(b"-")[0] for entry in (ids[0], ids[-1]))
    if len(first) != len(last) or (int(last) - int(first)) * 8 > len(ids):
        # One parse of "ms,seq,ms,seq,..." is several times cheaper than one int() per id.
        return cast("list[int]", orjson.loads(b"[%s]" % b",".join(ids).replace(b"-", b","))[::2])
    found: list[int] = []
    while len(found) < len(ids):  # many of each millisecond
        ms = ids[len(found)].partition(b"-")[0]
        end = bisect_left(ids, ms + b".", len(found))  # "." is what follows "-" in ASCII
        found += [int(ms)] * (end - len(found))
    return found


def finished(ledger: Ledger) -> int:
    """Return how many attempts a slot has ever brought to an end; for readers."""
    sums, _, _ = ledger.read()
    return sum(sums.counters[counter] for counter in _ENDS)
