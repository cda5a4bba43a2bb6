"""The intake: entries that rest in this slot's name, or a closed slot's, are taken into hand.

What their records say goes on here: for how long each still waits, and which of them only wait for their dead
letter. What is taken is recorded by the same script: until it is started, the loss of this host charges it
nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from ..ipc.exitcodes import Death
from ..ipc.journal import JOURNAL_MAX, Outcome
from ..ipc.ledger import C
from ..ipc.slot import Slot
from ..streams import marks
from ..streams.entry import Raw, parse_id
from ..streams.group import Claimed, Group, Pending, merged, next_id, pending_rows, taken
from ..streams.waiting import Wait
from .batcher import Batcher, Item
from .books import Books
from .recovery import COUNT_MAX, current, from_table
from .session import Session, good
from .shelf import Letter, Shelf
from .stories import Stories, unpack
from .taken import Taken
from .verdict import REASONS
from .ways import Ways

_NO_STORY = "the details were lost with the process that had them"
_COUNTER_MAX = 2**53  # others may set what they like; a larger one cannot be counted on


class Intake:
    """Entries that come to this slot from others, or back from its own past."""

    def __init__(
        self,
        ways: Ways,
        slot: Slot,
        group: Group,
        session: Session,
        shelf: Shelf,
        books: Books,
        batcher: Batcher,
        stories: Stories,
    ) -> None:
        """Bring together whom they come from, and where they go on."""
        self._batcher, self._guard, self._stories = batcher, ways.guard, stories
        self._ways, self._slot, self._group = ways, slot, group
        self._session, self._shelf, self._books = session, shelf, books
        self._counters = slot.ledger.sums.counters
        self._taken = Taken(slot, group, session, books, shelf, batcher, ways.guard)
        self.todo: deque[tuple[bytes, int]] = deque()  # (id, attempt) to be claimed and handled
        # What of `todo` we have the payload of, for one that is deleted by then.
        self.kept: dict[bytes, Raw] = {}
        self.resting = False  # entries that rest may be there, to be taken into hand
        self.suspects: deque[tuple[bytes, int]] = deque()  # (id, attempt), resting, to be run alone

    def rest(self) -> None:
        """Take the next page of own entries that rest into hand; leave suspects, to be taken one by one."""
        slot = self._slot
        rows = self._resting()
        page = _attempts(rows)
        if page:
            self._hold(page)
            return
        most = self._ways.most  # what has none left is for the leader to bury
        self.suspects = deque((row.entry, row.counter + 1) for row in rows if row.counter < most)
        self.resting = False
        known = self._known() | {row.entry for row in rows}
        for entry in slot.waiting.load().keys() - known:  # others took it while nobody sat here
            slot.waiting.drop(entry)
        self._stories.keep_only(known)
        pending = {row.entry for row in self._pending()}
        self._taken.know(pending)
        self._shelf.hasten(self._shelf.ids - pending)  # somebody may have taken it: to claim it will tell

    def adopt(self, consumer: str, table: Mapping[bytes, tuple[int, float]], stories: Stories) -> int:
        """Take over what a consumer that has ended for good left resting; return how many entries.

        Arguments:
            consumer: its name.
            table: rows of its slot's waiting table, so that a long delay is not cut short.
            stories: of its slot.
        """
        self._taken.doubt()
        adopted = 0
        while self._shelf.has_room():
            page = _attempts(self._resting(consumer))
            if not page:
                break  # the leader hands them on
            for entry, attempt in page.items():
                row = current(table, entry, attempt)
                if row is not None:
                    self._slot.waiting.put(entry, *row)
                if (story := stories.get(entry)) is not None:
                    self._stories.put(entry, story)
            adopted += self._hold(page, consumer)
        return adopted

    def _hold(self, attempts: dict[bytes, int], owner: str | None = None) -> int:
        """Take resting entries into hand for the attempts given; the journal knows them before Redis does.

        Return how many are ours now: others may have been faster.
        """
        self._books.note_claim(list(attempts), list(attempts.values()))
        results = taken(self._session.in_parts(attempts, partial(self._group.take, owner=owner)))
        found = list(zip(attempts, results, strict=True))
        records = {entry: result for entry, result in found if isinstance(result, Wait)}
        lost = [(entry, attempts[entry]) for entry, result in found if result == Claimed.DELETED]
        if lost:
            self._books.lose(lost)
        self._sort({entry: attempts[entry] for entry in records}, records)
        return len(records)

    def _sort(self, attempts: dict[bytes, int], records: Mapping[bytes, Wait]) -> None:
        """Put entries that are held now to where they go on: on the shelf, or next in line.

        Arguments:
            attempts: id -> number of the attempt that comes next.
            records: what is known of them in Redis.
        """
        waiting = self._slot.waiting.load()
        now = time.monotonic()
        letters: dict[bytes, tuple[int, Outcome]] = {}
        for entry, attempt in attempts.items():
            row, record = current(waiting, entry, attempt), records.get(entry, Wait(0, 0, 0))
            count, outcome = from_table(row[0]) if row else (0, None)
            if outcome is not None:
                letters[entry] = count, outcome
            elif record.outcome in REASONS:
                letters[entry] = min(record.attempts, COUNT_MAX), Outcome(record.outcome)
            elif attempt > self._ways.most:  # somebody has used them up, and no more is known
                letters[entry] = min(attempt - 1, COUNT_MAX), Outcome.DEAD_MAX_ATTEMPTS
            elif row and row[1] > now:
                self._shelf.restore(entry, *row, None)
            elif record.left_ms > 0:
                self._shelf.put(entry, attempt, now + record.left_ms / 1000)
            else:
                self.todo.append((entry, attempt))
        for letter in self._letters(letters):
            self._shelf.put_letter(letter, 0.0)
        self._counters[C.RECOVERED] += len(attempts)

    def _letters(
        self, wanted: Mapping[bytes, tuple[int, Outcome]], death: Death | None = None
    ) -> list[Letter]:
        """Return the dead letters of entries whose story is not in this process.

        Arguments:
            wanted: id -> (attempts, outcome).
            death: of the process that had them; None when it is not known.
        """
        missing = [entry for entry in wanted if self._stories.get(entry) is None]
        found: dict[bytes, bytes] = {}
        if missing:
            (reply,) = self._session.call(self._group.stories(missing))
            if isinstance(reply, list):  # a refusal: nothing is kept there
                found = {e: s for e, s in zip(missing, reply, strict=True) if isinstance(s, bytes)}
        letters = []
        for entry, (attempt, outcome) in wanted.items():
            story = self._stories.get(entry) or found.get(entry)
            letter = unpack(entry, attempt, outcome, story)
            if letter is not None and story is not None:
                self._stories.put(entry, story)
            letters.append(letter or _without_story(entry, attempt, outcome, death))
        return letters

    def claim_first(self, found: Iterable[Raw]) -> None:
        """Let entries that a read has brought be claimed before they run: they may be others' by now.

        They may even have come back, and may have been tried, before the reply was looked at.
        """
        known = self._known()
        for entry in found:
            if entry[0] not in known:
                self.todo.append((entry[0], 1))
                self.kept[entry[0]] = entry

    def claim_again(self, items: Iterable[Item]) -> None:
        """Let entries that were gathered be claimed before they run: they may be others' by now."""
        for entry, attempt, _ in items:
            self.todo.append((entry[0], attempt))
            self.kept[entry[0]] = entry

    def _known(self) -> set[bytes]:
        """Return what is in hand and waits for its turn."""
        known = self._shelf.ids | self._batcher.ids | {entry for entry, _ in self.todo}
        return known if self._guard is None else known | self._guard.ids

    def _resting(self, consumer: str | None = None) -> list[Pending]:
        """Return entries of a slot that rest, the first of each of its owners; by default of this slot."""
        return merged(map(good, self._session.call(*self._group.resting(JOURNAL_MAX, consumer))))

    def _pending(self) -> list[Pending]:
        """Return all own pending entries."""
        group = self._group
        left = dict.fromkeys(marks.owners(group.consumer), b"-")
        replies: list[Any] = []
        while left:
            asks = [group.pending(owner, first, JOURNAL_MAX) for owner, first in left.items()]
            found = [good(reply) for reply in self._session.call(*asks)]
            full = [
                (owner, page) for owner, page in zip(left, found, strict=True) if len(page) == JOURNAL_MAX
            ]
            left = {owner: next_id(parse_id(pending_rows(page)[-1].entry)) for owner, page in full}
            replies += found
        return merged(replies)


def _attempts(rows: Sequence[Pending]) -> dict[bytes, int]:
    """Return id -> number of the next attempt of what rests and is no suspect."""
    found = ((row.entry, min(row.counter + 1, _COUNTER_MAX)) for row in rows if not row.is_suspect)
    return dict(islice(found, JOURNAL_MAX))


def _without_story(entry: bytes, attempt: int, outcome: Outcome, death: Death | None) -> Letter:
    """Return the dead letter of an entry whose process cannot tell its story any more."""
    by_death = outcome in (Outcome.DEAD_CRASH, Outcome.DEAD_TIMEOUT)
    known = by_death and death is not None and death.charges
    reason = death.words if known and death is not None else REASONS[outcome]
    words = f"the worker process ended while it handled this entry: {reason}" if by_death else _NO_STORY
    return Letter(entry, attempt, outcome, reason, words, "")


def pages(ids: list[bytes], size: int = JOURNAL_MAX) -> Iterable[list[bytes]]:
    """Return ids in pages."""
    for at in range(0, len(ids), size):
        yield ids[at : at + size]
