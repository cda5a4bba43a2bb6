"""The books: what of an entry is written down, in which order, for whom.

The journal is for the successor, the ledger for whoever counts, the pipe for whoever reads logs, and
the dead letters for people. What ends here without its handler being called (a letter that could not
be written before, data that was deleted) goes through the journal like everything else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import NamedTuple

from ..ipc.cells import D
from ..ipc.journal import JOURNAL_MAX, Kind, Outcome
from ..ipc.ledger import C
from ..ipc.slot import Slot
from ..streams.entry import Raw, parse_id, text
from ..streams.envelope import ENVELOPES
from ..streams.group import Group, pack
from ..streams.letter import Written, write_command
from ..streams.wire import Lost
from .pace import Pace
from .recovery import ACKED, to_bury
from .session import Refused, Session
from .shelf import Letter, Shelf
from .spec import Spec
from .stories import Stories
from .stories import pack as pack_story
from .tally import count_outcomes, count_times, count_waits
from .verdict import Verdict

log = logging.getLogger(__name__)

_BURY_AGAIN_S = 2.0


class _Finished(NamedTuple):
    """Entries of a batch up to `end` that are finished; `attempts` is None when all are first ones."""

    batch: int
    end: int
    ids: Sequence[bytes]
    attempts: Sequence[int] | None
    rows: Sequence[int] | None
    outcomes: bytes
    marks: Sequence[float]


class Books:
    """The books of one slot."""

    def __init__(
        self,
        spec: Spec,
        slot: Slot,
        group: Group,
        session: Session,
        shelf: Shelf,
        pace: Pace,
        stories: Stories,
    ) -> None:
        """Bring together what is written to."""
        self._stories = stories
        self._spec, self._slot, self._group = spec, slot, group
        self._session, self._shelf, self._pace = session, shelf, pace
        self._envelope = ENVELOPES[spec.work.envelope]
        self._journal, self._ledger = slot.journal, slot.ledger
        self._sums, self._counters = slot.ledger.sums, slot.ledger.sums.counters
        self._desk = slot.desk.view
        self._finished: _Finished | None = None  # what the ledger does not count yet
        session.meanwhile = self.count

    def open(self, ids: Sequence[bytes], attempts: Sequence[int] | None, kind: Kind = Kind.RUN) -> int:
        """Write a batch into the journal, and strike its entries from the waiting table."""
        self.free_bank()
        number = self._journal.open(ids, attempts, kind)
        self._pace.opened(len(ids))
        if attempts is not None:
            self._shelf.forget(list(ids))
        return number

    def note_claim(self, ids: Sequence[bytes], attempts: Sequence[int]) -> None:
        """Write into the journal what is being taken into hand, before Redis is told."""
        self.free_bank()
        self._journal.open(ids, attempts, Kind.CLAIM)

    def free_bank(self) -> None:
        """Wait until the bank that is written next is needed no more: all counted, and confirmed by Redis."""
        self.count()
        oldest = self._session.oldest_debt()
        if oldest is not None and oldest < self._journal.number:
            self._session.settle()

    def report(
        self,
        entry: bytes,
        attempt: int,
        most: int,
        verdict: Verdict,
        error: str,
        trace: str,
        event: bytes | None = None,
    ) -> None:
        """Put a failure into the pipe, for whoever logs and shows it; `most` attempts are allowed."""
        waits = verdict.outcome is Outcome.WAITING
        frame = {
            "kind": "failure" if waits else "dead",
            "at": time.time(),
            "id": entry.decode(),
            "event": None if event is None else text(event[:200]),
            "attempt": attempt,
            "max": most,
            "reason": verdict.reason,
            "error": shorten(error, 2000),
            "traceback": shorten(trace, 16000),
            "retry_in": verdict.delay_s if waits else None,
        }
        self._slot.pipe.put(frame)

    def book(
        self,
        number: int,
        ids: Sequence[bytes],
        attempts: Sequence[int] | None,
        start: int,
        end: int,
        rows: Sequence[int] | None,
    ) -> bytes:
        """Take note of finished entries of the newest batch, to be counted once; return their outcomes.

        They are counted while the worker waits for Redis; until then the journal has them, for a successor
        as for whoever reads the segment.

        Arguments:
            number: of the batch.
            ids: of the entries from `start` to `end` in it.
            attempts: of the whole batch; None when all are first ones.
            start, end: the part that is counted.
            rows: the histogram row of each entry's event; None when none has one.
        """
        self.count()
        outcomes = bytes(self._journal.outcomes[start:end])
        marks = self._journal.marks[start : end + 1].tolist()
        self._finished = _Finished(number, end, ids, attempts and attempts[start:end], rows, outcomes, marks)
        if Outcome.DEFERRED not in outcomes:  # those take no time: more of them would be read at once
            self._pace.handled(end - start, marks[-1] - marks[0])
        desk = self._desk
        desk[D.HELD] = max(0, desk[D.HELD] - (end - start))
        desk[D.WAITING] = len(self._shelf)
        self._slot.desk.real[D.HANDLER_S] = self._pace.handler_s
        return outcomes

    def count(self) -> None:
        """Count in the ledger what has been finished since."""
        done, self._finished = self._finished, None
        if done is None:
            return
        ids, starts = done.ids, done.marks[:-1]
        deferred = Outcome.DEFERRED in done.outcomes
        if done.attempts is not None or deferred:
            attempts = done.attempts or [1] * len(ids)
            firsts = [
                at
                for at, attempt in enumerate(attempts)
                if attempt == 1 and done.outcomes[at] != Outcome.DEFERRED
            ]
            ids, starts = [ids[at] for at in firsts], [starts[at] for at in firsts]
        count_times(self._sums, done.marks, done.rows, done.outcomes)
        count_waits(self._sums, ids, starts, time.time() - monotonic(), in_order=done.attempts is None)
        left = count_outcomes(self._counters, done.outcomes, len(ids))
        self._ledger.commit(done.batch, done.end)
        self._slot.rates.add(done.marks[-1], len(ids), left)

    def book_call(self, number: int, ids: Sequence[bytes], attempts: Sequence[int], row: int | None) -> bytes:
        """Count what has ended of a call; return the outcomes of all its entries.

        Arguments:
            number: of the newest batch.
            ids, attempts: of its entries.
            row: the histogram row of its event; None when its end was not seen.
        """
        self.count()
        count, journal, sums = len(ids), self._journal, self._sums
        outcomes = bytes(journal.outcomes[:count])
        begun, end = journal.marks[0], journal.marks[count]
        ended = [at for at in range(count) if outcomes[at] not in (Outcome.OPEN, Outcome.SUSPECT)]
        run = [at for at in ended if outcomes[at] != Outcome.DEFERRED]
        firsts = [ids[at] for at in run if attempts[at] == 1]
        sums.counters[C.BATCHES] += 1
        sums.batch.add([count])
        count_waits(sums, firsts, [begun] * len(firsts), time.time() - monotonic(), in_order=False)
        left = count_outcomes(self._counters, bytes(outcomes[at] for at in ended), len(firsts))
        if row is not None and len(run) + outcomes.count(Outcome.OPEN) + outcomes.count(Outcome.SUSPECT):
            sums.handler(row).add([end - begun])
            self._pace.handled(count, end - begun)
        self._ledger.commit(number, count)
        self._slot.rates.add(monotonic(), len(firsts), left)
        self._desk[D.WAITING] = len(self._shelf)
        self._slot.desk.real[D.HANDLER_S] = self._pace.handler_s
        return outcomes

    def bury(self, letters: dict[int, Letter]) -> None:
        """Write dead letters of the newest batch, keyed by place; in one round trip for all.

        What cannot be written now goes back to the shelf: it stays pending and is tried again.
        """
        source = self._spec.source
        now_ms = int(time.time() * 1000)
        earlier: dict[bytes, int] = {}
        try:
            missing = [letter.entry for letter in letters.values() if letter.earlier is None]
            earlier = self.earlier(missing)
            commands = [
                self._letter(letter, earlier.get(letter.entry, letter.earlier or 0), now_ms)
                for letter in letters.values()
            ]
            replies = self._session.call(*commands)
        except (Lost, Refused) as error:
            replies = [error] * len(letters)
            if isinstance(error, Lost):
                self._session.give_up()  # the next letter need not find out again that nobody answers
        for (at, letter), reply in zip(letters.items(), replies, strict=True):
            name, counted = letter.entry.decode(), False
            if isinstance(reply, Exception):
                log.error(
                    "entry %s cannot be dead-lettered to %s yet, it stays pending: %s; its reason: %s",
                    name, source.dlq, reply, _why(letter),
                )  # fmt: skip
                self._put_off(letter)
            elif reply == Written.NOTHING and (letter.doubtful or not self._session.unchanged):
                log.warning("entry %s belongs to another slot by now: left to it", name)
            elif reply == Written.LOST:
                log.error("entry %s was deleted from the stream while pending: its data is lost", name)
                self._journal.outcomes[at] = Outcome.LOST
                counted = True
            else:
                self._report_letter(letter, earlier.get(letter.entry, letter.earlier or 0))
                counted = True
            if not counted:
                self._journal.outcomes[at] = Outcome.HELD_BACK
            if not isinstance(reply, Exception):
                self._stories.drop(letter.entry)

    def _put_off(self, letter: Letter) -> None:
        """Let a letter wait that Redis does not take now."""
        self._shelf.put_letter(replace(letter, kept=True), monotonic() + _BURY_AGAIN_S)
        if not letter.kept:
            self.keep(letter)

    def keep(self, letter: Letter) -> None:
        """Keep verdict and story of a letter for whoever gets the entry next, here or on another host."""
        story = pack_story(letter)
        self._stories.put(letter.entry, story)
        used_up = 1 + max(letter.attempt, letter.most, self._desk[D.MOST])
        command = self._group.keep_letter(letter.entry, used_up, letter.attempt, letter.outcome, story)
        self._session.owe(self._journal.number, command)

    def _report_letter(self, letter: Letter, earlier: int) -> None:
        by_death = letter.outcome in (Outcome.DEAD_CRASH, Outcome.DEAD_TIMEOUT)
        error = letter.reason if by_death else letter.error
        verdict = Verdict(letter.outcome, letter.reason)
        attempts = letter.attempt + earlier
        self.report(letter.entry, attempts, letter.most, verdict, error, letter.traceback, letter.event)

    def earlier(self, entries: Sequence[bytes]) -> dict[bytes, int]:
        """Return how often others have tried entries, by what their envelopes in the stream say.

        Those that are gone from the stream, and those without such an envelope, are left out.
        """
        if not entries or not self._envelope.counts:
            return {}
        replies = self._session.call(*map(self._group.look, entries))
        found = [reply[0] for reply in replies if isinstance(reply, list) and reply]
        return {entry[0]: count for entry in found if (count := self._envelope.retries(entry[1]))}

    def _letter(self, letter: Letter, earlier: int, now_ms: int) -> bytes:
        source = self._spec.source
        return pack(
            *write_command(
                source.stream,
                source.dlq,
                source.group,
                self._group.consumer,
                letter.entry,
                attempts=letter.attempt + earlier,
                reason=letter.reason,
                error=letter.error,
                traceback=letter.traceback,
                first_ms=parse_id(letter.entry)[0],
                last_ms=now_ms,
            )
        )

    def lose(self, gone: list[tuple[bytes, int]]) -> None:
        """Report and count (id, attempt) of entries that somebody deleted, or took off the pending list."""
        log.error(
            "%d pending entries of %s are lost: somebody has deleted them from stream %s, or has taken them"
            " off the pending entries list (XGROUP DELCONSUMER, XACK, XGROUP DESTROY): %s",
            len(gone), self._group.consumer, self._group.stream,
            b" ".join(entry for entry, _ in gone[:100]).decode() + (" ..." if len(gone) > 100 else ""),
        )  # fmt: skip
        for at in range(0, len(gone), JOURNAL_MAX):
            ids, attempts = zip(*gone[at : at + JOURNAL_MAX], strict=True)
            self.finish(list(ids), list(attempts), Outcome.LOST, {})

    def finish(
        self, ids: list[bytes], attempts: list[int], outcome: Outcome, letters: dict[int, Letter]
    ) -> None:
        """Journal, write and count entries that end without their handler being called.

        A letter's entry has been counted as read: the journal gets its row of the waiting table instead
        of a bare attempt, and the row goes only when the journal says how the entry ended.
        """
        attempts = [
            to_bury(attempt, letters[at].outcome) if at in letters else attempt
            for at, attempt in enumerate(attempts)
        ]
        self.free_bank()
        number = self._journal.open(ids, attempts)
        now = monotonic()
        self._journal.outcomes[: len(ids)] = bytes([outcome]) * len(ids)
        for at, letter in letters.items():
            self._journal.outcomes[at] = letter.outcome
        for at in range(len(ids) + 1):
            self._journal.marks[at] = now
        self._shelf.forget(ids)
        self.bury(letters)
        outcomes = bytes(self._journal.outcomes[: len(ids)])
        left = count_outcomes(self._counters, outcomes, sum(attempt == 1 for attempt in attempts))
        self._ledger.commit(number, len(ids))
        self._slot.rates.add(now, 0, left)
        self._desk[D.WAITING] = len(self._shelf)
        acked = [entry for entry, code in zip(ids, outcomes, strict=True) if code in ACKED]
        if acked:
            self._session.owe_ack(number, self._group, acked)

    def rows(self, entries: Sequence[Raw], *, unwrapped: bool) -> list[int] | None:
        """Return the histogram rows of the entries' events; None when none of them has one.

        Arguments:
            entries: as the server sent them.
            unwrapped: some were in an envelope that can hold an event in a single field.
        """
        fields = [entry[1] for entry in entries]
        if not unwrapped and max(map(len, fields), default=0) <= 2:
            return None
        row = self._slot.events.row
        events = [self._envelope.event(flat) for flat in fields]
        return None if not any(events) else [0 if event is None else row(event) for event in events]

    def row_of(self, entry: Raw) -> int:
        """Return the histogram row of an entry's event."""
        event = self._envelope.event(entry[1])
        return 0 if event is None else self._slot.events.row(event)


def _why(letter: Letter) -> str:
    """Return the reason and the error of a letter, as one line without control characters."""
    return f"{letter.reason}: {shorten(letter.error, 300)!r}" if letter.error else letter.reason


def shorten(words: str, most: int) -> str:
    """Return text of at most about `most` characters, cut in the middle."""
    return words if len(words) <= most else f"{words[: most // 2]} ... {words[-most // 2 :]}"
