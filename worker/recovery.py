"""Recovery: from what a predecessor left to what its successor does. Pure.

Two forms of a pending entry, told apart by its mark (see `streams.marks`):

    held      The slot has it in hand. Its delivery counter is the number of the attempt that runs or
              comes next.
    resting   Nobody has it in hand. The counter says how many attempts were started, and a plain claim by
              anybody, which adds one, makes it held again.

Where the journal names an entry, the journal's word on its attempt goes before the counter, for a claim
may have been on its way when the process died. An entry that rests is not the predecessor's any more: only
that it was finished still counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ..ipc.journal import Batch, Kind, Outcome
from ..ipc.ledger import INDEX_BITS
from ..streams import marks

# What is left to do is to acknowledge it.
ACKED = (Outcome.DONE, Outcome.LOST, Outcome.DUPLICATE, Outcome.IGNORED)
# It has ended in the journal, but not for good, and not as an attempt.
NOT_OVER = (Outcome.HELD_BACK, Outcome.DEFERRED)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do before the slot reads on. Lists are in the order of entry ids.

    Arguments:
        ack: finished entries to acknowledge.
        bury: (id, attempt, outcome) of entries to dead-letter.
        wait: id -> (next attempt, due) of entries that wait for their retry.
        run: (id, attempt) of entries to handle now.
        counters: id -> delivery counter that Redis has wrong.
        resting: entries to be taken into hand before they can run.
    """

    ack: list[bytes] = field(default_factory=list)
    bury: list[tuple[bytes, int, Outcome]] = field(default_factory=list)
    wait: dict[bytes, tuple[int, float]] = field(default_factory=dict)
    run: list[tuple[bytes, int]] = field(default_factory=list)
    counters: dict[bytes, int] = field(default_factory=dict)
    resting: set[bytes] = field(default_factory=set)


def culprit(batches: Sequence[Batch], running: bool, runs_on: int = 0) -> int | None:
    """Return the index, in the newest batch, of the entry that was in the hands of user code.

    Arguments:
        batches: the journal, older first.
        running: user code may have run.
        runs_on: place of a start behind which nothing was started without being claimed again.
    """
    if not running or not batches:
        return None
    if batches[-1].kind is Kind.CALL:  # of several, nobody knows whose fault it was: see `suspects`
        return 0 if batches[-1].outcomes == (Outcome.OPEN,) else None
    if batches[-1].kind is not Kind.RUN:
        return None
    at = batches[-1].started - 1
    if at > 0 and runs_on == batches[-1].number << INDEX_BITS | at - 1:
        return None  # its mark only says that the one before it has ended
    return at if 0 <= at < len(batches[-1].ids) else None


def suspects(batches: Sequence[Batch], running: bool) -> list[int]:
    """Return the indices, in the newest batch, of entries of which one may have killed the process.

    Arguments:
        batches: the journal, older first.
        running: user code may have run.
    """
    if not running or not batches or batches[-1].kind is not Kind.CALL or len(batches[-1].ids) == 1:
        return []
    return [at for at, outcome in enumerate(batches[-1].outcomes) if outcome is Outcome.OPEN]


def handled(batches: Sequence[Batch]) -> set[bytes]:
    """Return the entries for which a handler has returned."""
    return {
        entry
        for batch in batches
        for entry, end in zip(batch.ids, batch.ends, strict=True)
        if end is Outcome.DONE
    }


def plan(
    batches: Sequence[Batch],
    pending: Mapping[bytes, int],
    waiting: Mapping[bytes, tuple[int, float]],
    resting: Collection[bytes] = (),
) -> Plan:
    """Return what to do with every pending entry.

    Arguments:
        batches: the journal, older first; no culprit in it any more (it has its outcome by now).
        pending: id -> delivery counter, as the server has them.
        waiting: id -> (next attempt, due).
        resting: which of the pending ones rest.
    """
    fate: dict[bytes, tuple[Outcome | None, int]] = {}
    for batch in batches:
        for entry, attempt, outcome in zip(batch.ids, batch.attempts, batch.ends, strict=True):
            fate[entry] = (None if outcome in NOT_OVER else outcome, number(attempt))
    made = Plan()
    for entry, counter in pending.items():
        outcome, attempt = fate.get(entry, (None, counter))
        if outcome in ACKED:
            made.ack.append(entry)
            continue
        if outcome is not None and outcome is not Outcome.WAITING:
            made.bury.append((entry, attempt, outcome))
            continue
        if entry in resting:
            made.resting.add(entry)
            continue
        attempt += outcome is Outcome.WAITING
        if (row := current(waiting, entry, attempt)) is not None:
            made.wait[entry] = row
            if from_table(row[0])[1] is not None:
                continue  # its counter says that its attempts are used up
            attempt = row[0]
        else:  # it may have waited: then it was being run again, and that start is not on record
            made.run.append((entry, attempt))
        if counter != number(attempt):
            made.counters[entry] = number(attempt)
    return made


def current(
    waiting: Mapping[bytes, tuple[int, float]], entry: bytes, attempt: int
) -> tuple[int, float] | None:
    """Return an entry's row of the waiting table, None without one or when it is older than the attempt.

    An entry that was handed back can come again after others have tried it: attempts never go back. An entry
    that only waits for its dead letter is not tried again.
    """
    row = waiting.get(entry)
    if row is None or (number(row[0]) < attempt and from_table(row[0])[1] is None):
        return None
    return row


_BURY_SHIFT = 32
COUNT_MAX = (1 << _BURY_SHIFT) - 1  # attempts that a row can tell


def to_bury(attempt: int, outcome: Outcome) -> int:
    """Return what the waiting table holds for an entry whose dead letter could not be written yet."""
    return outcome << _BURY_SHIFT | attempt


def from_table(value: int) -> tuple[int, Outcome | None]:
    """Return the attempt, and the outcome when the entry waits for its dead letter."""
    code = value >> _BURY_SHIFT
    return number(value), Outcome(code) if code else None


def number(value: int) -> int:
    """Return the attempt's number in a value of the waiting table."""
    return value & COUNT_MAX


def orphans(rows: list[dict[bytes, object]], instance: str, workers: int) -> list[tuple[int, str]]:
    """Return (slot, consumer) of this instance's consumers beyond its slots that still hold entries."""
    found = []
    prefix = f"{instance}:"
    for row in rows:
        name = row[b"name"]
        assert isinstance(name, bytes)
        text, _ = marks.split(name.decode("utf-8", "surrogateescape"))
        tail = text.removeprefix(prefix)
        if text.startswith(prefix) and tail.isdecimal() and int(tail) >= workers and row[b"pending"]:
            found.append((int(tail), text))
    return sorted(set(found))
