"""The runner: one journalled batch through the handler, entry by entry, and into the books.

Order of writing, on which every promise about crashes rests: the journal names an entry before the
handler gets it; a failure is on the shelf before its outcome is marked; an outcome is marked before
the next entry starts; the ledger counts before Redis is told; a bank is reused after Redis confirmed.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from collections.abc import Sequence
from time import monotonic
from types import FrameType

from ..ipc.cells import D, DeskState
from ..ipc.journal import JOURNAL_MAX, Outcome
from ..ipc.ledger import C
from ..ipc.slot import Slot
from ..streams.entry import DecodeError, Message, Raw, field, parse_id, payload, text
from ..streams.group import Group, pack
from ..streams.letter import Written, write_command
from ..streams.serializers import Serializer
from ..streams.wire import Lost
from .controls import Controls
from .handler import Handler
from .pace import Pace
from .recovery import to_bury
from .session import Refused, Session
from .shelf import Letter, Shelf
from .spec import Spec
from .tally import count_outcomes, count_times, count_waits
from .verdict import OURS, SoftTimeout, Verdict, describe, judge, story

log = logging.getLogger(__name__)

_BURY_AGAIN_S = 2.0
_ALARM_AGAIN_S = 0.001


class Runner:
    """Runs batches in one slot."""

    def __init__(
        self,
        spec: Spec,
        slot: Slot,
        handler: Handler,
        serializer: Serializer,
        group: Group,
        session: Session,
        shelf: Shelf,
        pace: Pace,
        controls: Controls,
    ) -> None:
        """Bring together what a batch passes through."""
        self._spec, self._slot, self._group = spec, slot, group
        self._session, self._shelf, self._pace, self._controls = session, shelf, pace, controls
        self._journal, self._ledger = slot.journal, slot.ledger
        self._sums, self._counters = slot.ledger.sums, slot.ledger.sums.counters
        self._desk = slot.desk.view
        self._decode = serializer.decode
        self._message = Message.for_stream(spec.source.stream)
        self._call = handler.callable(spec.soft_timeout_s)
        self._alarm_s = 0.0 if handler.is_async else spec.soft_timeout_s
        self._letters: dict[int, Letter] = {}
        self._again: dict[int, list[bytes]] = {}
        if self._alarm_s:
            controls.use_alarm(self._on_alarm)

    def run(self, entries: Sequence[Raw], attempts: Sequence[int] | None = None) -> None:
        """Handle entries in order; what is not started when the worker has to stop stays pending.

        Arguments:
            entries: as the server sent them, at most `JOURNAL_MAX`.
            attempts: the number of the attempt that each is here for; None when it is the first.
        """
        number = self.open([entry[0] for entry in entries], attempts)
        self._counters[C.BATCHES] += 1
        self._sums.batch.add([len(entries)])
        self._desk[D.HELD], self._desk[D.STATE] = len(entries), DeskState.HANDLING
        at = 0
        while at < len(entries) and not self._controls.stopping:
            start, at = at, self._chunk(entries, attempts, at)
            self._session.check()
            self._controls.glance()
            self._settle(number, entries, attempts, start, at)
            if at < len(entries):
                self._session.send()  # the rest may take long: what is done is acknowledged now
        self._desk[D.HELD] = 0

    def open(self, ids: Sequence[bytes], attempts: Sequence[int] | None) -> int:
        """Write a batch into the journal, and strike its entries from the waiting table."""
        self.free_bank()
        number = self._journal.open(ids, attempts)
        if attempts is not None:
            self._shelf.forget(list(ids))
        return number

    def free_bank(self) -> None:
        """Wait until Redis has confirmed all of the batch whose bank is written next."""
        oldest = self._session.oldest_debt()
        if oldest is not None and oldest < self._journal.number:
            self._session.settle()

    def _chunk(self, entries: Sequence[Raw], attempts: Sequence[int] | None, start: int) -> int:
        """Handle entries from `start` for about a batch's time; return where it stopped.

        This loop is what a message costs. All that can wait is done per chunk.
        """
        marks, running, clock = self._journal.marks, self._desk, monotonic
        handle, decode, message, stop = self._call, self._decode, self._message, self._controls.stopping
        running[D.RUNNING] = 1
        if self._alarm_s:
            signal.setitimer(signal.ITIMER_REAL, self._alarm_s)
        at = start
        until = clock() + self._spec.reading.batch_s
        for entry in entries[start:] if start else entries:
            now = clock()
            if stop or (now > until and at > start):
                break
            marks[at] = now
            try:
                fields = entry[1]
                data = decode(fields[1]) if fields[0] == b"data" else payload(fields, decode)
            except Exception as error:
                until = self._failed(at, entry, attempts, as_decode_error(error), until)
            else:
                try:
                    handle(message(entry, data) if attempts is None else message(entry, data, attempts[at]))
                except BaseException as error:  # whatever user code throws is a failure of this entry
                    until = self._failed(at, entry, attempts, error, until)
            at += 1
        if stop and self._controls.is_intruder:
            os._exit(0)
        if self._alarm_s:
            signal.setitimer(signal.ITIMER_REAL, 0)
        # The last entry's end. In the middle of a batch the same mark would say that the next entry
        # has started, so user code is declared over first.
        if at == len(entries):
            marks[at] = clock()
            running[D.RUNNING] = 0
        else:
            running[D.RUNNING] = 0
            marks[at] = clock()
        return at

    def _failed(
        self, at: int, entry: Raw, attempts: Sequence[int] | None, error: BaseException, until: float
    ) -> float:
        """Decide on a failed attempt and write it down; Redis is told after the chunk.

        Return until when the chunk may go on: not at all with a dead letter, for its story is in this
        process alone until it is written, and the next entry may kill the process.
        """
        if self._controls.stopping and self._controls.is_intruder:
            os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
        attempt = 1 if attempts is None else attempts[at]
        words = describe(error)
        trace = "" if isinstance(error, DecodeError) else story(error)  # the frames would all be ours
        verdict = judge(error, attempt, self._spec.retries, random.random)
        if verdict.outcome is Outcome.WAITING:
            self._shelf.put(entry[0], attempt + 1, monotonic() + verdict.delay_s)
            self._again.setdefault(attempt + 1, []).append(entry[0])
        else:
            self._letters[at] = Letter(entry[0], attempt, verdict.outcome, verdict.reason, words, trace)
        self._journal.outcomes[at] = verdict.outcome
        self.report(entry[0], attempt, verdict, words, trace, field(entry[1], b"event"))
        self._session.check()  # with our descriptors gone, those of the next handler may be gone too
        return 0.0 if self._letters else until

    def report(
        self, entry: bytes, attempt: int, verdict: Verdict, error: str, trace: str, event: bytes | None = None
    ) -> None:
        """Put a failure into the pipe, for whoever logs and shows it."""
        waits = verdict.outcome is Outcome.WAITING
        frame = {
            "kind": "failure" if waits else "dead",
            "at": time.time(),
            "id": entry.decode(),
            "event": None if event is None else text(event[:200]),
            "attempt": attempt,
            "max": self._spec.retries.max_attempts,
            "reason": verdict.reason,
            "error": shorten(error, 2000),
            "traceback": shorten(trace, 16000),
            "retry_in": verdict.delay_s if waits else None,
        }
        self._slot.pipe.put(frame)

    def _settle(
        self, number: int, entries: Sequence[Raw], attempts: Sequence[int] | None, start: int, end: int
    ) -> None:
        """Count what a chunk finished, and owe Redis what follows from it."""
        if start == end:
            return
        if self._letters:
            letters, self._letters = self._letters, {}
            self.bury(letters)
        if self._again:
            again, self._again = self._again, {}
            for attempt, ids in again.items():
                self._session.owe(number, self._group.set_counter(ids, attempt))
        done = entries[start:end]
        ids = [entry[0] for entry in done]
        outcomes = self.book(number, ids, attempts, start, end, self._rows(done))
        acked = (
            ids if not any(outcomes) else [i for i, code in zip(ids, outcomes, strict=True) if code in _ACKED]
        )
        if acked:
            self._session.owe(number, self._group.ack(acked))

    def book(
        self,
        number: int,
        ids: Sequence[bytes],
        attempts: Sequence[int] | None,
        start: int,
        end: int,
        rows: Sequence[int] | None,
    ) -> bytes:
        """Count finished entries of the newest batch in the ledger, once; return their outcomes.

        Arguments:
            number: of the batch.
            ids: of the entries from `start` to `end` in it.
            attempts: of the whole batch; None when all are first ones.
            start, end: the part that is counted.
            rows: the histogram row of each entry's event; None when none has one.
        """
        outcomes = bytes(self._journal.outcomes[start:end])
        marks = self._journal.marks[start : end + 1].tolist()
        starts = marks[:-1]
        if attempts is not None:
            firsts = [at for at, attempt in enumerate(attempts[start:end]) if attempt == 1]
            ids, starts = [ids[at] for at in firsts], [starts[at] for at in firsts]
        now = marks[-1]
        count_times(self._sums, marks, rows)
        count_waits(self._sums, ids, starts, time.time() - monotonic())
        left = count_outcomes(self._counters, outcomes, len(ids))
        self._ledger.commit(number, end)
        self._slot.rates.add(now, len(ids), left)
        self._pace.handled(end - start, now - marks[0])
        desk = self._desk
        desk[D.HELD] = max(0, desk[D.HELD] - (end - start))
        desk[D.WAITING] = len(self._shelf)
        self._slot.desk.real[D.HANDLER_S] = self._pace.handler_s
        return outcomes

    def bury(self, letters: dict[int, Letter]) -> None:
        """Write dead letters of the newest batch, keyed by place; in one round trip for all.

        What cannot be written now goes back to the shelf: it stays pending and is tried again.
        """
        source = self._spec.source
        now_ms = int(time.time() * 1000)
        commands = [
            pack(
                *write_command(
                    source.stream,
                    source.dlq,
                    source.group,
                    self._group.consumer,
                    letter.entry,
                    attempts=letter.attempt,
                    reason=letter.reason,
                    error=letter.error,
                    traceback=letter.traceback,
                    first_ms=parse_id(letter.entry)[0],
                    last_ms=now_ms,
                )
            )
            for letter in letters.values()
        ]
        try:
            replies = self._session.call(*commands)
        except (Lost, Refused) as error:
            replies = [error] * len(commands)
        for (at, letter), reply in zip(letters.items(), replies, strict=True):
            if isinstance(reply, Exception):
                log.error(
                    "entry %s cannot be dead-lettered to %s yet, it stays pending: %s",
                    letter.entry.decode(), source.dlq, reply,
                )  # fmt: skip
                self._shelf.put_letter(letter, monotonic() + _BURY_AGAIN_S)
                self._journal.outcomes[at] = Outcome.HELD_BACK
            elif reply == Written.LOST:
                log.error(
                    "entry %s was deleted from the stream while pending: its data is lost",
                    letter.entry.decode(),
                )
                self._journal.outcomes[at] = Outcome.LOST

    def lose(self, gone: list[tuple[bytes, int]]) -> None:
        """Report and count (id, attempt) of entries whose data was deleted while they were pending."""
        log.error(
            "%d pending entries are gone from stream %s, their data is lost: %s",
            len(gone),
            self._group.stream,
            b" ".join(entry for entry, _ in gone[:10]).decode(),
        )
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
        acked = [entry for entry, code in zip(ids, outcomes, strict=True) if code in _ACKED]
        if acked:
            self._session.owe(number, self._group.ack(acked))

    def _rows(self, entries: Sequence[Raw]) -> list[int] | None:
        """Return the histogram rows of the entries' events; None when none of them has one."""
        fields = [entry[1] for entry in entries]
        if all(len(flat) == 2 for flat in fields):
            return None
        row = self._slot.events.row
        events = [field(flat, b"event") for flat in fields]
        return None if not any(events) else [0 if event is None else row(event) for event in events]

    def row_of(self, entry: Raw) -> int:
        """Return the histogram row of an entry's event."""
        event = field(entry[1], b"event")
        return 0 if event is None else self._slot.events.row(event)

    def _on_alarm(self, _number: int, frame: FrameType | None) -> None:
        """Raise in user code that has run too long; come again later in any other case."""
        at = frame
        inner: FrameType | None = None
        while at is not None and at.f_code is not Runner._chunk.__code__:
            at, inner = at.f_back, at
        if at is None:
            return
        age = monotonic() - max(self._journal.marks.tolist())
        if age < self._alarm_s:
            signal.setitimer(signal.ITIMER_REAL, self._alarm_s - age)
            return
        if inner is None or inner.f_globals.get("__name__", "").startswith(OURS):
            signal.setitimer(signal.ITIMER_REAL, _ALARM_AGAIN_S)
            return
        signal.setitimer(signal.ITIMER_REAL, self._alarm_s)
        raise SoftTimeout(f"ran longer than {self._alarm_s:g} s")


_ACKED = (Outcome.DONE, Outcome.LOST)


def as_decode_error(error: Exception) -> Exception:
    """Return the error of a payload that cannot be decoded; a lack of memory or time is not its fault."""
    if isinstance(error, DecodeError | MemoryError | SoftTimeout):
        return error
    wrapped = DecodeError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def shorten(words: str, most: int) -> str:
    """Return text of at most about `most` characters, cut in the middle."""
    return words if len(words) <= most else f"{words[: most // 2]} ... {words[-most // 2 :]}"
