"""Waiting records: which entries a slot holds and has not started, so that a lost host does not charge them.

A slot holds entries that wait: for their next attempt, for the circuit breaker of their event, for their
dead letter to be written, or, taken over from others, for their turn. In the pending entries list they look
like one that runs. So each has a record in a hash of the group. The script that lets an entry wait writes its
record, and the script that claims it, before its handler starts, removes it.

A record counts only while the entry has the owner and the delivery counter that it was written with: versions
that know no records leave them behind. A missing record costs one attempt at most, where the host is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

_WAITING = Path(__file__).with_name("scripts").joinpath("waiting.lua").read_bytes()


def script(waiting: int, stories: int) -> bytes:
    """Return what goes in front of a script that uses waiting records.

    Arguments:
        waiting, stories: which of the script's KEYS the two hashes are.
    """
    return b"local WAITING, STORIES = KEYS[%d], KEYS[%d]\n" % (waiting, stories) + _WAITING


class Wait(NamedTuple):
    """What is known of an entry that waits.

    Arguments:
        left_ms: for how long it still waits, not negative.
        attempts: that were started, of an entry that waits for its dead letter; else 0.
        outcome: of such an entry, else 0.
    """

    left_ms: int
    attempts: int
    outcome: int


class Record(NamedTuple):
    """A record as it is kept. See `scripts/waiting.lua`."""

    due_ms: int
    delay_ms: int
    counter: int
    attempts: int
    outcome: int
    consumer: bytes

    def left_ms(self, now_ms: int) -> int:
        """Return for how long the entry still waits.

        Arguments:
            now_ms: the server's time, Unix ms. It may have been set back: no wait becomes longer by that.
        """
        return max(0, min(self.due_ms - now_ms, self.delay_ms))


def parse(reply: Any) -> Record | None:
    """Return a record from what HGET or HMGET returns for it, None without one and for what is none."""
    if not isinstance(reply, bytes):
        return None
    parts = reply.split(b" ", 5)
    if len(parts) < 6 or not all(part.isdigit() for part in parts[:5]):
        return None
    due, delay, counter, attempts, outcome = map(int, parts[:5])
    return Record(due, delay, counter, attempts, outcome, parts[5])


def unstarted(rows: Sequence[tuple[bytes, bytes, int]], replies: Sequence[Any]) -> dict[bytes, Record]:
    """Return id -> record of the entries that have certainly not been started.

    Arguments:
        rows: (id, owner, delivery counter) of pending entries that are held.
        replies: what HMGET says of these ids, in the same order.
    """
    found = {}
    for (entry, owner, counter), reply in zip(rows, replies, strict=True):
        record = parse(reply)
        if record is not None and (record.consumer, record.counter) == (owner, counter):
            found[entry] = record
    return found
