"""The backlog: pending entries that the slot has not read just now: at boot, after a lost connection, when
others handed it some, and at the end.

What has to be done is decided in `recovery`; here it is carried out, each step so that a death in
the middle of it leaves a journal from which the next process comes to the same result.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial

from ..ipc.cells import CHARGED, D, S, W
from ..ipc.exitcodes import Cause, Death
from ..ipc.journal import JOURNAL_MAX, Kind, Outcome
from ..ipc.ledger import INDEX_BITS, C
from ..ipc.slot import Slot
from ..streams.entry import Raw
from ..streams.group import SCRIPT_MAX, Claimed, Group, Pending, pack
from ..streams.waiting import Record, unstarted
from ..streams.wire import Lost
from .batcher import Batcher
from .books import Books
from .failures import left
from .intake import Intake, pages
from .once import Once
from .recovery import COUNT_MAX, NOT_OVER, Plan, culprit, from_table, handled, plan, suspects, to_bury
from .session import Refused, Session
from .shelf import Letter, Shelf
from .stories import Stories
from .verdict import REASONS, judge_death
from .ways import Ways

log = logging.getLogger(__name__)
_LETTERS = 50  # in one write


class Backlog(Intake):
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
        stories: Stories,
        once: Once | None = None,
    ) -> None:
        """Bring together what recovery works on."""
        super().__init__(ways, slot, group, session, shelf, books, batcher, stories)
        self._once = once

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
        recorded = self._recorded(rows)
        if not slot.desk.view[D.HOLDS]:
            rows = self._suspect(rows, recorded)
        waiting = self._rows_of(recorded) | waiting
        pending = {row.entry: row.counter for row in rows}
        made = plan(slot.journal.batches(), pending, waiting, {row.entry for row in rows if row.rests})
        lost = self._taken.from_memory(waiting, pending)
        for entry, _ in lost:
            waiting.pop(entry, None)  # its row stays until it is counted
        self._carry_out(made, waiting, pending)
        self._record_again(made, recorded)
        self._book_unsettled(settled)
        self._taken.lose(lost)
        slot.desk.view[D.HOLDS], slot.desk.view[D.HELD_IN] = 1, self._session.term
        self.suspects.clear()
        self.resting = True
        taken = len(made.run) + len(made.wait)
        if made.ack or made.bury or taken:
            log.info(
                "%s recovered: %d were finished and acknowledged now, %d go on, %d wait, %d dead-lettered",
                self._group.consumer,
                len(made.ack), len(made.run), len(made.wait), len(made.bury),
            )  # fmt: skip

    def _recorded(self, rows: list[Pending]) -> dict[bytes, Record]:
        """Return the records of what is held and was certainly not started."""
        held = [(row.entry, row.consumer, row.counter) for row in rows if not row.rests]
        found: dict[bytes, Record] = {}
        for at in range(0, len(held), JOURNAL_MAX):
            page = held[at : at + JOURNAL_MAX]
            (reply,) = self._session.call(self._group.records([row[0] for row in page]))
            if isinstance(reply, list):  # a refusal: no record is known
                found |= unstarted(page, reply)
        return found

    def _rows_of(self, recorded: Mapping[bytes, Record]) -> dict[bytes, tuple[int, float]]:
        """Return rows of the waiting table for records that have none: the memory that had them is lost.

        What only waits for its turn needs none.
        """
        table, now = self._slot.waiting, time.monotonic()
        missing = {entry: record for entry, record in recorded.items() if entry not in table}
        if not missing:
            return {}
        seconds, micros = self._session.must(pack("TIME"))
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        found = {}
        for entry, record in missing.items():
            dead = record.outcome in REASONS
            left_ms = record.left_ms(now_ms)
            if (dead or left_ms) and table.free:
                value = (
                    to_bury(min(record.attempts, COUNT_MAX), Outcome(record.outcome))
                    if dead
                    else record.counter
                )
                found[entry] = value, now + left_ms / 1000
                table.put(entry, *found[entry])
        return found

    def _record_again(self, made: Plan, recorded: Mapping[bytes, Record]) -> None:
        """Wait what waits and is not recorded: the predecessor died before Redis was told."""
        newest = self._slot.journal.number
        again = {
            entry: row
            for entry, row in made.wait.items()
            if entry not in recorded and from_table(row[0])[1] is None
        }
        for page in pages(list(again), SCRIPT_MAX):
            rows = {entry: again[entry] for entry in page}
            self._session.owe(newest, partial(self._let_wait, rows))
        for letter in self._shelf.letters:
            if letter.entry not in recorded and not letter.doubtful:
                self._books.keep(letter)

    def _let_wait(self, rows: Mapping[bytes, tuple[int, float]]) -> bytes:
        return self._group.let_wait(left(rows))

    def _suspect(self, rows: list[Pending], recorded: Collection[bytes]) -> list[Pending]:
        """Let entries rest that a process held of which this memory knows nothing: its host was lost.

        Returns:
            The rows of all others: what rests, and what is recorded, which was not started.
        """
        held = {row.entry: row.counter for row in rows if not row.rests and row.entry not in recorded}
        self._session.in_parts(held, partial(self._group.hand_back, suspect=True))
        if held:
            log.warning(
                "%s: %d entries were held by a host whose memory is lost: each is charged an attempt"
                " and run alone", self._group.consumer, len(held),
            )  # fmt: skip
        return [row for row in rows if row.entry not in held]

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
        for page in pages(list(made.counters), SCRIPT_MAX):
            counters = {entry: made.counters[entry] for entry in page}
            self._session.owe(newest, self._group.set_counters(counters))
        for page in pages(made.ack):
            if self._once is not None:
                self._once.owe_acks_of(newest, page, handled(self._slot.journal.batches()))
            else:
                self._session.owe_ack(newest, self._group, page)
        self._session.settle()
        death = Death(Cause(self._slot.seat.view[S.CAUSE]), self._slot.seat.view[S.DETAIL])
        places, over = self._places()
        unsent: dict[bytes, tuple[int, Outcome]] = {}  # letters whose story has to be found
        doubtful = self._slot.desk.view[D.HELD_IN] != self._session.term  # others may have acted since
        for entry in waiting.keys() - made.wait.keys():
            attempt, dead = from_table(waiting[entry][0])
            if entry in made.resting:
                continue  # what the row says holds when it is taken into hand
            if dead is None or entry in pending or entry in over:
                self._slot.waiting.drop(entry)
            else:  # its letter was written, but the answer never came: it is still to be counted
                unsent[entry] = attempt, dead
        unsent |= {entry: (attempt, outcome) for entry, attempt, outcome in made.bury}
        letters: dict[int, Letter] = {}
        for letter in self._letters(unsent, death):
            if letter.entry in places and letter.entry in pending:
                letters[places[letter.entry]] = letter
            else:
                gone = letter.entry not in pending
                self._shelf.put_letter(replace(letter, doubtful=doubtful and gone), 0.0)
        if letters:
            self._books.bury(letters)
        later: dict[bytes, tuple[int, Outcome]] = {}
        for entry, (value, due) in made.wait.items():
            attempt, dead = from_table(value)
            if dead is None:
                self._shelf.restore(entry, value, due, None)
            else:
                later[entry] = attempt, dead
        for letter in self._letters(later, death):
            self._shelf.put_letter(letter, 0.0)
        self.todo.extend(made.run)
        self._counters[C.RECOVERED] += len(made.run) + len(made.wait)

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

    def audit(self) -> None:
        """Find entries that were delivered to a connection which broke before we saw them."""
        self._session.settle()
        known = self._known()
        rows = [row for row in self._pending() if not row.rests]
        stranded = {row.entry: row.counter for row in rows if row.entry not in known}
        if stranded:
            log.warning("%d entries came over a line that was given up; they go on here", len(stranded))
            self._sort(stranded, {})

    def hand_back(self) -> int:
        """Let everything rest that is held: anybody may take it, uncharged; return how many entries."""
        slot = self._slot
        self._books.count()
        self._write_letters()
        rows = self._pending()
        pending = {row.entry: row.counter for row in rows if not row.rests}
        # From 7.0 on, a claim takes a deleted entry off the pending list and says nothing.
        self._taken.lose(self._taken.from_hand(self.todo, {row.entry for row in rows}))
        for page in pages(list(pending)):
            self._books.note_claim(page, [pending[entry] for entry in page])
            back = {entry: max(0, pending[entry] - 1) for entry in page}
            codes = self._session.in_parts(back, self._group.hand_back)
            found = zip(page, codes, strict=True)
            self._taken.lose((entry, pending[entry]) for entry, code in found if code == Claimed.DELETED)
        for entry, (value, _) in slot.waiting.load().items():
            if (
                from_table(value)[1] is not None
            ):  # for whoever takes the entry: not for our successor to count
                slot.waiting.drop(entry)
        slot.desk.view[D.HOLDS] = slot.desk.view[D.WAITING] = 0
        slot.journal.forget()
        slot.ledger.commit(slot.journal.number, 0)
        return len(pending)

    def _write_letters(self) -> None:
        """Try once more to write the dead letters that Redis has refused: nobody else has to, then."""
        letters = self._shelf.letters
        for at in range(0, len(letters), _LETTERS):
            page = letters[at : at + _LETTERS]
            ids, attempts = [letter.entry for letter in page], [letter.attempt for letter in page]
            self._shelf.remove(ids)
            try:
                self._books.finish(ids, attempts, page[0].outcome, dict(enumerate(page)))
            except (Lost, Refused):  # what was owed could not be sent: they were not tried
                for letter in page:
                    self._shelf.put_letter(letter, 0.0)
                raise
