"""The shelf: failed entries of this slot, in the order in which they are due again.

In memory for the worker, and line by line in the segment for its successor.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from ..ipc.journal import JOURNAL_MAX, Outcome, Waiting
from .recovery import from_table, to_bury


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that is to be written.

    Arguments:
        attempt: how often its handler was started here.
        earlier: how often others have tried it before, as its envelope says; None: not looked up yet.
        event: of the entry, None when it has none or that is not known.
        most: how many attempts were allowed, 0 when that is not known.
        kept: its story is kept for whoever gets the entry next.
        doubtful: others may have written it.
    """

    entry: bytes
    attempt: int
    outcome: Outcome
    reason: str
    error: str
    traceback: str
    earlier: int | None = None
    event: bytes | None = None
    most: int = 0
    kept: bool = False
    doubtful: bool = False


class Due(NamedTuple):
    """An entry on the shelf. `letter` is there when it only waits for its dead letter to be written."""

    at: float
    entry: bytes
    attempt: int
    letter: Letter | None


class Shelf:
    """Entries that wait."""

    def __init__(self, table: Waiting) -> None:
        """Use a slot's waiting table, which must have been loaded."""
        self._table = table
        self._heap: list[Due] = []
        self._serial = 0
        self.ids: set[bytes] = set()

    def __len__(self) -> int:
        """Return how many entries wait."""
        return len(self._heap)

    def has_room(self, beside: int = 0) -> bool:
        """Tell whether every entry of a further read could fail and still find a place.

        Arguments:
            beside: so many are in hand and may fail too.
        """
        return self._table.free - beside >= 2 * JOURNAL_MAX

    @property
    def next_due(self) -> float | None:
        """Return when the first entry is due, in monotonic seconds."""
        return self._heap[0].at if self._heap else None

    def attempts(self) -> list[tuple[bytes, int]]:
        """Return (id, attempt) of what waits to be tried again."""
        return [(due.entry, due.attempt) for due in self._heap if due.letter is None]

    @property
    def letters(self) -> list[Letter]:
        """Return the letters that wait to be written."""
        return [due.letter for due in self._heap if due.letter is not None]

    def remove(self, entries: Collection[bytes]) -> None:
        """Take entries off the shelf, due or not. They stay in the table until `forget`."""
        gone = set(entries)
        self._heap = [due for due in self._heap if due.entry not in gone]
        heapq.heapify(self._heap)
        self.ids -= gone

    def clear(self) -> None:
        """Forget what is in memory; the table stays."""
        self._heap.clear()
        self.ids.clear()

    def put(self, entry: bytes, attempt: int, due: float) -> None:
        """Let an entry wait for its attempt of that number."""
        self._table.put(entry, attempt, due)
        self._push(Due(due, entry, attempt, None))

    def put_letter(self, letter: Letter, due: float) -> None:
        """Let an entry wait until its dead letter can be written."""
        self._table.put(letter.entry, to_bury(letter.attempt, letter.outcome), due)
        self._push(Due(due, letter.entry, letter.attempt, letter))

    def restore(self, entry: bytes, value: int, due: float, letter: Letter | None) -> None:
        """Take an entry over that is in the table already."""
        attempt, _ = from_table(value)
        self._push(Due(due, entry, attempt, letter))

    def take(self, now: float, most: int) -> list[Due]:
        """Take up to `most` entries that are due. They stay in the table until `forget`."""
        taken: list[Due] = []
        while self._heap and self._heap[0].at <= now and len(taken) < most:
            due = heapq.heappop(self._heap)
            self.ids.discard(due.entry)
            taken.append(due)
        return taken

    def hasten(self, entries: AbstractSet[bytes]) -> None:
        """Let entries that wait for another attempt be taken next, whenever they are due."""
        found = {due.entry for due in self._heap if due.letter is None} & entries
        if found:
            self._heap = [due._replace(at=0.0) if due.entry in found else due for due in self._heap]
            heapq.heapify(self._heap)

    def forget(self, entries: list[bytes]) -> None:
        """Strike entries out of the table: the journal has them now."""
        for entry in entries:
            self._table.drop(entry)

    def _push(self, due: Due) -> None:
        heapq.heappush(self._heap, due)
        self.ids.add(due.entry)
