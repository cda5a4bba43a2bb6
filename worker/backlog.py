"""The backlog: pending entries that the slot has not read just now: at boot, after a lost connection, when
others handed it some, and at the end.

What has to be done is decided in `recovery`; here it is carried out, each step so that a death in
the middle of it leaves a journal from which the next process comes to the same result.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Iterable, Mapping

from ..ipc.cells import CHARGED, D, S, W
from ..ipc.exitcodes import Cause, Death
from ..ipc.journal import JOURNAL_MAX, Kind, Outcome
from ..ipc.ledger import INDEX_BITS, C
from ..ipc.slot import Slot
from ..streams.entry import Raw, parse_id
from ..streams.group import Claimed, Group, Pending, next_id, pending_rows
from .batcher import Batcher, Item
from .books import Books
from .once import Once
from .recovery import NOT_OVER, Plan, culprit, current, from_table, handled, plan, suspects
from .session import Session, good
from .shelf import Letter, Shelf
from .verdict import REASONS, judge_death
from .ways import Ways

log = logging.getLogger(__name__)
_NO_STORY = "the details were lost with the process that had them"


class Backlog:
    """Pending entries that this slot has not read just now."""

    def __init__(
        self,
        ways: Ways,
        slot: Slot,
        group: Group,
        session: Session,
        shelf: Shelf,
        books: Books,
        batcher: Batcher,
        once: Once | None = None,
    ) -> None:
        """Bring together what recovery works on."""
        self._batcher, self._once, self._guard = batcher, once, ways.guard
        self._ways, self._slot, self._group = ways, slot, group
        self._session, self._shelf, self._books = session, shelf, books
        self._counters = slot.ledger.sums.counters
        self.todo: deque[tuple[bytes, int]] = deque()  # (id, attempt) to be claimed and handled
        self.kept: dict[
            bytes, Raw
        ] = {}  # what of `todo` we have the payload of, for one that is deleted by then
        self._gone: set[bytes] = set()  # that were found to be deleted while they were handed back
        self.resting = False  # entries that rest may be there, to be taken into hand
        self.suspects: deque[tuple[bytes, int]] = deque()  # (id, attempt), resting, to be run alone

    def recover(self) -> None:
        """Do what the predecessor could not, before anything is read; again from the start if it fails."""
        slot = self._slot
        self._books.count()
        self.todo.clear()
        self.kept.clear()
        self._batcher.clear()
        if self._guard is not None:
            self._guard.clear()
        self._shelf.clear()
        slot.waiting.load()
        settled = slot.ledger.load()
        self._charge_culprit()
        self._batcher.alone |= self._suspected()
        waiting = slot.waiting.load()
        rows = self._pending()
        if not slot.desk.view[D.HOLDS]:
            rows = self._suspect(rows)
        pending = {row.entry: row.counter for row in rows}
        made = plan(slot.journal.batches(), pending, waiting, {row.entry for row in rows if row.rests})
        self._carry_out(made, waiting, pending)
        self._book_unsettled(settled)
        slot.desk.view[D.HOLDS] = 1
        self.suspects.clear()
        self.resting = True
        taken = len(made.run) + len(made.wait)
        if made.ack or made.bury or taken:
            log.info(
                "%s recovered: %d were finished and acknowledged now, %d go on, %d wait, %d dead-lettered",
                self._group.consumer,
                len(made.ack), len(made.run), len(made.wait), len(made.bury),
            )  # fmt: skip

    def _suspect(self, rows: list[Pending]) -> list[Pending]:
        """Let entries rest that a process held of which this memory knows nothing: its host was lost."""
        held = {row.entry: row.counter for row in rows if not row.rests}
        for page in _pages(list(held)):
            back = self._group.hand_back({entry: held[entry] for entry in page}, suspect=True)
            good(self._session.call(back)[0])
        if held:
            log.warning(
                "%s: %d entries were held by a host whose memory is lost: each is charged an attempt"
                " and run alone", self._group.consumer, len(held),
            )  # fmt: skip
        return [row for row in rows if row.rests]

    def _charge_culprit(self) -> None:
        """Finish the journal of a dead predecessor: the entry whose handler ran has its outcome now.

        Its end mark looks like the start of the entry behind it, so before that mark is set `RUNNING`
        changes from "user code runs" to "this one is charged": a death in here charges nobody else.
        """
        slot, desk = self._slot, self._slot.desk.view
        batches = slot.journal.batches()
        at = culprit(batches, desk[D.RUNNING] == 1, slot.ward.view[W.RUNS_ON])
        together = suspects(batches, desk[D.RUNNING] == 1)
        if together and self._death(batches[-1].number << INDEX_BITS).charges:
            row = self._breaker_of(batches[-1].ids[together[0]])
            for place in together:
                slot.journal.outcomes[place] = Outcome.SUSPECT
            self._tell_guard(row)
            log.warning(
                "%s: the process ended while %d entries were handled together: each runs alone until the"
                " culprit has shown itself, nobody else is charged", self._group.consumer, len(together),
            )  # fmt: skip
        if at is not None:
            batch = batches[-1]
            entry, attempt = batch.ids[at], batch.attempts[at]
            death = self._death(batch.number << INDEX_BITS | at)
            if death.charges:
                earlier = self._books.earlier([entry]).get(entry, 0)
                retries, row = self._ways.retries(entry, self._look), self._breaker_of(entry)
                verdict = judge_death(death, attempt + earlier, retries, random.random)
                if verdict.outcome is Outcome.WAITING:
                    slot.waiting.put(entry, attempt + 1, time.monotonic() + verdict.delay_s)
                slot.journal.outcomes[at] = verdict.outcome
                words = death.words if verdict.reason == "" else verdict.reason
                self._books.report(entry, attempt + earlier, retries.max_attempts, verdict, words, "")
                desk[D.RUNNING] = CHARGED + at
                self._tell_guard(row)
        if desk[D.RUNNING] >= CHARGED:
            slot.journal.marks[desk[D.RUNNING] - CHARGED + 1] = time.monotonic()
        desk[D.RUNNING] = 0
        if self._guard is not None:
            self._guard.recovered()

    def _breaker_of(self, entry: bytes) -> int | None:
        """Return the circuit breaker of an entry's event, None without one."""
        found = None if self._guard is None else self._look(entry)
        return None if found is None else self._ways.of(found).breaker

    def _tell_guard(self, row: int | None) -> None:
        """Let a circuit breaker know that a process has died in a handler of its event."""
        if self._guard is not None:
            self._guard.charged(row)

    def _suspected(self) -> set[bytes]:
        """Return the entries of the newest batch that have to run alone."""
        batches = self._slot.journal.batches()
        if not batches or batches[-1].kind is not Kind.CALL:
            return set()
        rows = zip(batches[-1].ids, batches[-1].outcomes, strict=True)
        return {entry for entry, outcome in rows if outcome is Outcome.SUSPECT}

    def _look(self, entry: bytes) -> Raw | None:
        found: list[Raw] = self._session.must(self._group.look(entry))
        return found[0] if found else None

    def _death(self, place: int) -> Death:
        """Return how the predecessor died, as far as it concerns the entry at a place."""
        seat = self._slot.seat.view
        try:
            cause = Cause(seat[S.CAUSE])
        except ValueError:
            cause = Cause.UNKNOWN
        if cause is Cause.TIMEOUT and seat[S.CONDEMNED] != place:
            cause = Cause.SHUTDOWN  # the kill was meant for the entry before, which then finished
        return Death(cause, seat[S.DETAIL])

    def _carry_out(
        self, made: Plan, waiting: dict[bytes, tuple[int, float]], pending: dict[bytes, int]
    ) -> None:
        """Bring Redis and the shelf to where the plan says they are."""
        newest = self._slot.journal.number
        for page in _pages(list(made.counters)):
            counters = {entry: made.counters[entry] for entry in page}
            self._session.owe(newest, self._group.set_counters(counters))
        for page in _pages(made.ack):
            if self._once is not None:
                self._once.owe_acks_of(newest, page, handled(self._slot.journal.batches()))
            else:
                self._session.owe_ack(newest, self._group, page)
        self._session.settle()
        death = Death(Cause(self._slot.seat.view[S.CAUSE]), self._slot.seat.view[S.DETAIL])
        places, over = self._places()
        for entry in waiting.keys() - made.wait.keys():
            attempt, dead = from_table(waiting[entry][0])
            if entry in made.resting:
                continue  # what the row says holds when it is taken into hand
            if dead is None or entry in pending or entry in over:
                self._slot.waiting.drop(entry)
            else:  # its letter was written, but the answer never came: it is still to be counted
                self._shelf.put_letter(self._letter(entry, attempt, dead, death), 0.0)
        letters: dict[int, Letter] = {}
        for entry, attempt, outcome in made.bury:
            letter = self._letter(entry, attempt, outcome, death)
            if entry in places:
                letters[places[entry]] = letter
            else:
                self._shelf.put_letter(letter, 0.0)
        if letters:
            self._books.bury(letters)
        for entry, (value, due) in made.wait.items():
            attempt, dead = from_table(value)
            unsent = None if dead is None else self._letter(entry, attempt, dead, death)
            self._shelf.restore(entry, value, due, unsent)
        self.todo.extend(made.run)
        self._counters[C.RECOVERED] += len(made.run) + len(made.wait)

    def _letter(self, entry: bytes, attempt: int, outcome: Outcome, death: Death) -> Letter:
        """Return the dead letter of an entry whose process cannot tell its story any more."""
        by_death = outcome in (Outcome.DEAD_CRASH, Outcome.DEAD_TIMEOUT)
        reason = death.words if by_death and death.charges else REASONS[outcome]
        words = f"the worker process ended while it handled this entry: {reason}" if by_death else _NO_STORY
        return Letter(entry, attempt, outcome, reason, words, "")

    def _places(self) -> tuple[dict[bytes, int], set[bytes]]:
        """Return id -> place in the newest batch, and which of its entries have ended for good."""
        batches = self._slot.journal.batches()
        if not batches:
            return {}, set()
        ended = zip(batches[-1].ids, batches[-1].ends, strict=True)
        over = {entry for entry, end in ended if end not in (None, Outcome.WAITING, *NOT_OVER)}
        return {entry: at for at, entry in enumerate(batches[-1].ids)}, over

    def _book_unsettled(self, settled: tuple[int, int]) -> None:
        """Count what the predecessor had finished and not counted yet."""
        batches = self._slot.journal.batches()
        if batches and batches[-1].kind is Kind.CALL and settled[0] < batches[-1].number:
            batch = batches[-1]
            self._books.book_call(batch.number, batch.ids, batch.attempts, None)
            return
        if not batches or batches[-1].kind is not Kind.RUN:
            self._slot.ledger.commit(*settled)
            return
        batch = batches[-1]
        start = settled[1] if settled[0] == batch.number else 0
        end = max(0, batch.started - 1)
        if settled[0] > batch.number or start >= end:
            self._slot.ledger.commit(*settled)
            return
        ids = batch.ids[start:end]
        replies = self._session.call(*[self._group.look(entry) for entry in ids])
        found = [reply[0] if isinstance(reply, list) and reply else None for reply in replies]
        rows = [0 if entry is None else self._books.row_of(entry) for entry in found]
        self._books.book(batch.number, ids, batch.attempts, start, end, rows)
        self._books.count()

    def rest(self) -> None:
        """Take the next page of own entries that rest into hand; leave suspects, to be taken one by one."""
        slot = self._slot
        rows = pending_rows(self._session.must(self._group.resting(JOURNAL_MAX)))
        page = {row.entry: row.counter + 1 for row in rows if not row.is_suspect}
        if page:
            self._hold(page)
            return
        most = self._ways.most  # what has none left is for the leader to bury
        self.suspects = deque((row.entry, row.counter + 1) for row in rows if row.counter < most)
        self.resting = False
        known = self._known() | {row.entry for row in rows}
        for entry in slot.waiting.load().keys() - known:  # others took it while nobody sat here
            slot.waiting.drop(entry)

    def adopt(self, consumer: str, table: Mapping[bytes, tuple[int, float]]) -> int:
        """Take over what a consumer that has ended for good left resting; return how many entries.

        Arguments:
            consumer: its name.
            table: rows of its slot's waiting table, so that a long delay is not cut short.
        """
        taken = 0
        while rows := pending_rows(self._session.must(self._group.resting(JOURNAL_MAX, consumer))):
            page = {row.entry: row.counter + 1 for row in rows if not row.is_suspect}
            if not page:
                break  # the leader hands them on
            for entry, attempt in page.items():
                row = current(table, entry, attempt)
                if row is not None and self._shelf.has_room():
                    self._slot.waiting.put(entry, *row)
            taken += self._hold(page, consumer)
        return taken

    def _hold(self, attempts: dict[bytes, int], owner: str | None = None) -> int:
        """Take resting entries into hand for the attempts given; the journal knows them before Redis does.

        Return how many are ours now: others may have been faster.
        """
        self._books.note_claim(list(attempts), list(attempts.values()))
        results = self._session.must(self._group.take(attempts, owner))
        got = {entry: attempts[entry] for entry, code in zip(attempts, results, strict=True) if code == 1}
        lost = [item for item, code in zip(attempts.items(), results, strict=True) if code == Claimed.DELETED]
        if lost:
            self._books.lose(lost)
        self._sort(got)
        return len(got)

    def _sort(self, attempts: dict[bytes, int]) -> None:
        """Put entries that are held now to where they go on: on the shelf, or next in line."""
        waiting = self._slot.waiting.load()
        now = time.monotonic()
        for entry, attempt in attempts.items():
            value, due = current(waiting, entry, attempt) or (attempt, 0.0)
            _, outcome = from_table(value)
            if outcome is not None:
                self._shelf.restore(
                    entry, value, due, self._letter(entry, attempt, outcome, Death(Cause.CLEAN))
                )
            elif due > now:
                self._shelf.restore(entry, value, due, None)
            else:
                self.todo.append((entry, attempt))
        self._counters[C.RECOVERED] += len(attempts)

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

    def audit(self) -> None:
        """Find entries that were delivered to a connection which broke before we saw them."""
        self._session.settle()
        known = self._known()
        rows = [row for row in self._pending() if not row.rests]
        stranded = {row.entry: row.counter for row in rows if row.entry not in known}
        if stranded:
            log.warning("%d entries came over a line that was given up; they go on here", len(stranded))
            self._sort(stranded)

    def hand_back(self) -> int:
        """Let everything rest that is held: anybody may take it, uncharged; return how many entries."""
        slot = self._slot
        self._books.count()
        pending = {row.entry: row.counter for row in self._pending() if not row.rests}
        # From 7.0 on, a claim takes a deleted entry off the pending list and says nothing.
        self._lose((entry, attempt) for entry, attempt in self._shelf.attempts() if entry not in pending)
        if self._guard is not None and self._session.unchanged:
            self._lose((entry, attempt) for entry, attempt in self._guard.attempts if entry not in pending)
        for page in _pages(list(pending)):
            self._books.note_claim(page, [pending[entry] for entry in page])
            back = {entry: max(0, pending[entry] - 1) for entry in page}
            codes = good(self._session.call(self._group.hand_back(back))[0])
            rows = zip(page, codes, strict=True)
            self._lose((entry, pending[entry]) for entry, code in rows if code == Claimed.DELETED)
        slot.desk.view[D.HOLDS] = 0
        slot.journal.forget()
        slot.ledger.commit(slot.journal.number, 0)
        return len(pending)

    def _lose(self, gone: Iterable[tuple[bytes, int]]) -> None:
        """Count what is deleted, once, however often the line breaks meanwhile."""
        new = [(entry, attempt) for entry, attempt in gone if entry not in self._gone]
        if new:
            self._gone.update(entry for entry, _ in new)
            self._books.lose(new)

    def _pending(self) -> list[Pending]:
        """Return all own pending entries."""
        found: list[Pending] = []
        first = b"-"
        while True:
            page = pending_rows(self._session.must(self._group.pending(first, JOURNAL_MAX)))
            found += page
            if len(page) < JOURNAL_MAX:
                return found
            first = next_id(parse_id(page[-1].entry))


def _pages(ids: list[bytes]) -> Iterable[list[bytes]]:
    for at in range(0, len(ids), JOURNAL_MAX):
        yield ids[at : at + JOURNAL_MAX]
