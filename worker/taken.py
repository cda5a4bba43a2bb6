"""Taken: entries in this slot's hand that somebody outside the fleet has taken off the pending entries list.

XGROUP DELCONSUMER, XACK by hand, and XGROUP DESTROY do that without a word. What is in hand with its payload
runs all the same. The rest is counted as lost, and named in the log. Not lost is what others of ours may have
finished: what was lent, and everything once the lease was lost or the group was created anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from ..ipc.cells import D
from ..ipc.journal import JOURNAL_MAX, Batch, Kind
from ..ipc.slot import Slot
from ..streams.group import Claimed, Group
from .batcher import Batcher
from .books import Books
from .guard import Guard
from .recovery import from_table, handled, number
from .session import Session
from .shelf import Shelf

TAKEN = (Claimed.TAKEN, Claimed.ALL_TAKEN)


class Taken:
    """Finds out what was taken from one slot, and counts it once."""

    def __init__(
        self,
        slot: Slot,
        group: Group,
        session: Session,
        books: Books,
        shelf: Shelf,
        batcher: Batcher,
        guard: Guard | None,
    ) -> None:
        """Bring together where entries are held, who is asked, and where what is lost is counted."""
        self._shelf, self._batcher, self._guard = shelf, batcher, guard
        self._slot, self._group, self._session, self._books = slot, group, session, books
        self._desk = slot.desk.view
        self._foreign: set[bytes] = set()  # in the journal, but others' since another term of the lease
        self._counted: set[bytes] = set()  # the line may break between the count and its confirmation

    def know(self, pending: AbstractSet[bytes]) -> None:
        """Note that from now on all that the memory names is held in this term, if that is so.

        Arguments:
            pending: what is pending here.
        """
        lent = self._slot.loans.entries()
        had = held(self._slot.journal.batches(), {})
        self._foreign = {entry for entry in had if entry not in pending and entry not in lent}
        sure = not self._foreign and not self._session.regrouped
        self._desk[D.TERM] = self._session.term if sure else 0

    def doubt(self) -> None:
        """Note that the memory may name what others hold."""
        self._desk[D.TERM] = 0

    def from_memory(
        self, waiting: Mapping[bytes, tuple[int, float]], pending: Mapping[bytes, int]
    ) -> list[tuple[bytes, int]]:
        """Return (id, attempt) of what a predecessor had in hand and what is lost now.

        Nothing, where its memory is of another term of the lease: others may have acted on its entries since.

        Arguments:
            waiting: rows of the waiting table.
            pending: what is pending here.
        """
        if not self._desk[D.HOLDS] or self._desk[D.TERM] != self._session.term:
            return []
        had = held(self._slot.journal.batches(), waiting)
        missing = self._session.consumer_was_missing
        return self.among({entry: had[entry] for entry in had.keys() - pending.keys()}, all_taken=missing)

    def from_hand(
        self, todo: Iterable[tuple[bytes, int]], pending: AbstractSet[bytes]
    ) -> list[tuple[bytes, int]]:
        """Return (id, attempt) of what this process has in hand and what is lost now.

        Arguments:
            todo: (id, attempt) of what is to be claimed.
            pending: what is pending here.
        """
        had = held(self._slot.journal.batches(), {})
        for entry in self._shelf.ids | self._foreign:  # what waits for its letter has a verdict already
            had.pop(entry, None)
        had |= dict(self._shelf.attempts()) | dict(todo) | self._batcher.attempts
        if self._guard is not None:
            had |= dict(self._guard.attempts)
        # What a read brings late may have rested, been taken from there and been handled before it is seen.
        over = handled(self._slot.journal.batches())
        return self.among({entry: had[entry] for entry in had.keys() - pending - over})

    def among(self, held: Mapping[bytes, int], *, all_taken: bool = False) -> list[tuple[bytes, int]]:
        """Return (id, attempt) of entries in hand, found not to be pending here, that are lost.

        Arguments:
            held: id -> attempt.
            all_taken: the consumer itself was gone: what it let others take was taken with all the rest.
        """
        if not held or not self._session.unchanged:
            return []
        over = (Claimed.DELETED, Claimed.GONE, *(() if self._session.regrouped else TAKEN))
        lent = self._slot.loans.entries()
        wanted = {entry: attempt for entry, attempt in held.items() if lent.get(entry, True)}
        found: list[tuple[bytes, int]] = []
        items = list(wanted.items())
        for page in (dict(items[at : at + JOURNAL_MAX]) for at in range(0, len(items), JOURNAL_MAX)):
            codes = self._session.in_parts(page, self._group.claim)
            rows = zip(page.items(), codes, strict=True)
            found += [
                item
                for item, code in rows
                if isinstance(code, int)
                and code in over
                and (item[0] not in lent or code == Claimed.ALL_TAKEN or all_taken)
            ]
        return found

    def lose(self, gone: Iterable[tuple[bytes, int]]) -> None:
        """Count what is lost, once, however often the line breaks meanwhile."""
        new = [(entry, attempt) for entry, attempt in gone if entry not in self._counted]
        if new:
            self._counted.update(entry for entry, _ in new)
            self._books.lose(new)


def held(batches: Sequence[Batch], waiting: Mapping[bytes, tuple[int, float]]) -> dict[bytes, int]:
    """Return id -> attempt of what a slot's memory says is in its hand and not finished. Pure.

    Arguments:
        batches: the journal, older first.
        waiting: the rows of the waiting table; what waits for its dead letter is left out.
    """
    found: dict[bytes, int] = {}
    for batch in batches:
        for entry, attempt, end in zip(batch.ids, batch.attempts, batch.ends, strict=True):
            if end is None and batch.kind is not Kind.CLAIM:
                found[entry] = number(attempt)
            else:
                found.pop(entry, None)
    for entry, (value, _) in waiting.items():
        attempt, letter = from_table(value)
        if letter is None:
            found[entry] = attempt
    return found
