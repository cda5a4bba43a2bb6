"""The runner: one journalled batch through the handler, entry by entry, and into the books.

Order of writing, on which every promise about crashes rests: the journal names an entry before the
handler gets it; a failure is on the shelf before its outcome is marked; an outcome is marked before
the next entry starts; a bank is reused after the ledger has counted it and Redis has confirmed it.

While one entry takes long, the keeper may lend those behind it to idle slots. It asks first, by a cell that
the loop compares after each mark; from then on this process starts nothing that it has not claimed again.
"""

from __future__ import annotations

import logging
import os
import random
from collections import deque
from collections.abc import Sequence
from time import monotonic

from ..ipc.cells import D, DeskState, W
from ..ipc.fence import Fence
from ..ipc.journal import Outcome
from ..ipc.ledger import C
from ..ipc.nudge import Nudge
from ..ipc.slot import Slot
from ..streams.entry import DecodeError, Message, Raw
from ..streams.envelope import ENVELOPES
from ..streams.group import Group
from ..streams.serializers import REFUSED, Serializer, quick
from .alarm import Alarm
from .books import Books
from .calls import Calls
from .controls import Controls
from .failures import Failures
from .once import Once
from .recovery import ACKED
from .session import Session
from .spec import Spec
from .verdict import (
    LAZY,
    BreakerOpen,
    Duplicate,
    Ignored,
    NeverRan,
    UnknownEvent,
    as_decode_error,
    describe,
    judge,
    never_ran,
    story,
)
from .ways import Ways

log = logging.getLogger(__name__)


class Runner:
    """Runs batches in one slot."""

    def __init__(
        self,
        spec: Spec,
        slot: Slot,
        ways: Ways,
        serializer: Serializer,
        group: Group,
        session: Session,
        failures: Failures,
        alarm: Alarm,
        books: Books,
        controls: Controls,
        fence: Fence,
        nudge: Nudge,
        todo: deque[tuple[bytes, int]],
        kept: dict[bytes, Raw],
        calls: Calls,
        once: Once | None = None,
    ) -> None:
        """Bring together what a batch passes through.

        Arguments:
            todo: where (id, attempt) of entries go that have to be claimed before they may run.
            kept: where those entries go themselves, by id.
            calls: takes what is handled together.
            once: tells copies apart, None where they are handled like all others.
        """
        self._calls, self._once = calls, once
        self._nudge, self._todo, self._kept = nudge, todo, kept
        self._fence = fence
        self._spec, self._slot, self._group, self._books = spec, slot, group, books
        self._session, self._failures, self._controls = session, failures, controls
        self._journal, self._desk, self._sums = slot.journal, slot.desk.view, slot.ledger.sums
        self._decode, self._quick = serializer.decode, quick(serializer)
        self._envelope = ENVELOPES[spec.work.envelope]
        self._first = None if once else self._envelope.first
        self._unwrapped = False  # an entry of the chunk was not of the plainest form
        self._message = Message.for_stream(spec.source.stream, self._envelope)
        self._ways, self._call, self._alarm = ways, ways.call, alarm
        self._asks = slot.ward.real[W.ASKED : W.ASKED + 1]
        alarm.watch(Runner._chunk.__code__)

    @property
    def asked(self) -> float:
        """Return what changes when the keeper asks us to make sure of all that we have not started."""
        return self._asks[0]

    def run(
        self, entries: Sequence[Raw], attempts: Sequence[int] | None = None, *, alone: bool = False
    ) -> None:
        """Handle entries in order; what is not started when the worker may not go on stays pending.

        What is not started when the keeper asks goes to `todo`; what is handled together is left to `calls`.

        Arguments:
            entries: as the server sent them, at most `JOURNAL_MAX`.
            attempts: the number of the attempt that each is here for; None when it is the first.
            alone: it is one entry, and it waits for no others.
        """
        if self._ways.gathers:
            entries, attempts = self._calls.sift(entries, attempts, alone=alone)
            if not entries:
                return
        asked = self.asked  # before the first mark: who has seen one of this batch asks later
        if self._once is not None:
            self._once.begin(entries)
        ids = [entry[0] for entry in entries]
        number = self._books.open(ids, attempts)
        self._desk[D.HELD], self._desk[D.STATE] = len(entries), DeskState.HANDLING
        if self._alarm.shortest_s:
            self._alarm.limit_s = lambda at: self._ways.of(entries[at]).alarm_s if at < len(entries) else 0.0
        if len(entries) > 1 or self._desk[D.MORE]:
            self._nudge.give()
        at = 0
        fence, term = self._fence, self._session.term  # in another term the rest may belong to others
        while at < len(entries) and not self._controls.stopping and fence.is_open and fence.term == term:
            start, at = at, self._chunk(entries, attempts, at, asked)
            self._session.check()
            self._settle(number, ids, entries, attempts, start, at)
            if self.asked != asked:
                again = [1] * len(entries) if attempts is None else attempts
                rest = zip(ids[at:], again[at:], strict=True)
                self._todo.extendleft(reversed(list(rest)))
                self._kept.update((entry[0], entry) for entry in entries[at:])
                break  # what is done is acknowledged in the same write that claims
            if at < len(entries):
                self._controls.glance()
                self._session.send()  # the rest may take long: what is done is acknowledged now
        self._desk[D.HELD] = self._calls.waiting

    def _chunk(self, entries: Sequence[Raw], attempts: Sequence[int] | None, start: int, asked: float) -> int:
        """Handle entries from `start` for about a batch's time, or until asked; return where it stopped.

        This loop is what a message costs. All that can wait is done per chunk.
        """
        marks, running, clock = self._journal.marks, self._desk, monotonic
        handle, decode, quickly = self._call, self._decode, self._quick
        new, stop, asks = self._message, self._controls.stopping, self._asks
        first, unwrap = self._first, self._unwrap
        running[D.RUNNING] = 1
        self._alarm.begin()
        at = start
        until = clock() + min(self._spec.reading.batch_s, self._fence.left_s)
        for entry in entries[start:] if start else entries:
            now = clock()
            if stop or (now > until and at > start):
                break
            marks[at] = now
            if asks[0] != asked:  # after the mark: either the keeper sees it, or we see that it has asked
                break
            message = new()
            message.entry, message.attempt = entry, 1 if attempts is None else attempts[at]
            try:
                fields = entry[1]
                if fields[0] == first:
                    try:
                        message.data = quickly(fields[1])
                    except REFUSED:
                        if quickly == decode:  # it has had the last word
                            raise
                        message.data = decode(fields[1])
                elif (payload := unwrap(message)) is not None:
                    message.data = decode(payload)
            except Exception as error:
                until = self._failed(at, entry, attempts, as_decode_error(error), until)
            else:
                try:
                    if (result := handle(message)) is not None and type(result) in LAZY:
                        raise never_ran(result)
                except BaseException as error:  # whatever user code throws is a failure of this entry
                    until = self._failed(at, entry, attempts, error, until)
            at += 1
        if stop and self._controls.is_intruder:
            os._exit(0)
        self._alarm.end()
        # The last entry's end. In the middle of a batch the same mark would say that the next entry
        # has started, so user code is declared over first.
        if at == len(entries):
            marks[at] = clock()
            running[D.RUNNING] = 0
        else:
            running[D.RUNNING] = 0
            marks[at] = clock()
        return at

    def _unwrap(self, message: Message) -> bytes | None:
        """Take an entry out of its envelope; return what is left to be decoded, if anything.

        That is done in the loop itself, where the soft limit knows user code from ours.
        """
        self._unwrapped = True
        if self._once is not None:
            self._once.refuse_copy(message.entry[0])
        content = self._envelope.unwrap(message.entry[1])
        message.data = content.data
        message.attempt += content.retries
        if content.letter:
            message.data = content.decoded(self._decode)
            return None
        return content.payload

    def _failed(
        self, at: int, entry: Raw, attempts: Sequence[int] | None, error: BaseException, until: float
    ) -> float:
        """Decide on a failed attempt and write it down; Redis is told after the chunk.

        Return until when the chunk may go on: not at all with a dead letter, for its story is in this
        process alone until it is written, and the next entry may kill the process.
        """
        if self._controls.stopping and self._controls.is_intruder:
            os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
        if isinstance(error, Duplicate | Ignored):
            self._journal.outcomes[at] = Outcome.IGNORED if isinstance(error, Ignored) else Outcome.DUPLICATE
            return until
        if isinstance(error, BreakerOpen) and not error.dead:
            attempt = 1 if attempts is None else attempts[at]
            self._ways.defer(entry, attempt)
            self._failures.defer(entry[0], attempt)
            self._journal.outcomes[at] = Outcome.DEFERRED
            return until
        attempt, retries = 1 if attempts is None else attempts[at], self._ways.of(entry).retries
        earlier = self._envelope.retries(entry[1])
        words = describe(error)
        # Of these there is nothing to show but our own frames.
        ours = isinstance(error, DecodeError | UnknownEvent | NeverRan | BreakerOpen)
        trace = "" if ours else story(error)
        verdict = judge(error, attempt + earlier, retries, random.random)
        self._failures.note(at, entry, attempt, earlier, retries, verdict, words, trace)
        self._session.check()  # with our descriptors gone, those of the next handler may be gone too
        return 0.0 if self._failures.has_letters else until

    def _settle(
        self,
        number: int,
        ids: Sequence[bytes],
        entries: Sequence[Raw],
        attempts: Sequence[int] | None,
        start: int,
        end: int,
    ) -> None:
        """Have counted what a chunk finished, and owe Redis what follows from it."""
        if start == end:
            return
        self._failures.tell(number)
        if not start:  # here and not before the handler: that would be on every message's way
            self._sums.counters[C.BATCHES] += 1
            self._sums.batch.add([len(entries)])
        unwrapped, self._unwrapped = self._unwrapped, False
        ids = ids[start:end]
        rows = self._books.rows(entries[start:end], unwrapped=unwrapped)
        outcomes = self._books.book(number, ids, attempts, start, end, rows)
        if self._once is not None:
            self._once.owe_acks(number, ids, outcomes)
            return
        acked = (
            ids if not any(outcomes) else [i for i, code in zip(ids, outcomes, strict=True) if code in ACKED]
        )
        if acked:
            self._session.owe_ack(number, self._group, acked)
