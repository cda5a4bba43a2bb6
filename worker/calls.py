"""The calls: entries that are handled together, by one call of a batch handler.

In the journal all entries of a call begin at its start, and each ends when its outcome is stored: what the
handler marks with `message.done()` is over at once, whatever becomes of the call. A process that dies in the
middle leaves the others as suspects: its successor runs them one by one, and who takes that process with it,
alone, is charged.

For the same reason nobody is dead-lettered for another's failure: where a call of several fails as a whole,
an entry that has no attempt left runs once more, alone, before its letter is written.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from ..ipc.cells import D, DeskState, W
from ..ipc.fence import Fence
from ..ipc.journal import Kind, Outcome
from ..ipc.limit import pack
from ..ipc.nudge import Nudge
from ..ipc.slot import Slot
from ..streams.entry import Message, Raw
from ..streams.envelope import Envelope
from ..streams.group import Claimed, Group
from ..streams.serializers import Serializer
from ..streams.wire import Lost
from .alarm import Alarm
from .batcher import Batcher, Item, Load, said_done
from .books import Books
from .controls import Controls
from .failures import Failures, parts
from .once import Once
from .recovery import ACKED
from .session import Refused, Session
from .verdict import BreakerOpen, Duplicate, NotDone, as_decode_error, describe, judge, story
from .ways import Way, Ways

log = logging.getLogger(__name__)
_WARN_AGAIN_S = 60.0


class BatchMessage(Message):
    """One entry of a batch, as its handler sees it."""

    __slots__ = ("at", "call")
    at: int
    call: Call

    def done(self) -> None:
        """Mark this entry as done, now: whatever becomes of the call, it is not run again.

        Raises:
            RuntimeError: the call is over, or this is another process.
        """
        self.call.mark(self.at)


class Call:
    """A call that is going on."""

    __slots__ = ("_nudge", "_outcomes", "_pid")

    def __init__(self, outcomes: memoryview, nudge: Nudge | None = None) -> None:
        self._outcomes: memoryview | None = outcomes
        self._nudge = nudge
        self._pid = os.getpid()

    def mark(self, at: int) -> None:
        """Store that an entry is done."""
        if self._outcomes is None:
            raise RuntimeError("done() comes too late: the call that this message belongs to is over")
        if os.getpid() != self._pid:
            raise RuntimeError("done() was called in a child process: return the ids to the handler instead")
        self._outcomes[at] = Outcome.DONE
        if self._nudge is not None:
            self._nudge.give()  # the call may take long: the keeper acknowledges what is done

    def close(self) -> None:
        """Take no more marks: the place in the journal will be another entry's."""
        self._outcomes = None


@dataclass(slots=True)
class _End:
    """How a call ended.

    Arguments:
        said: ids that the handler says are done; None when it said nothing.
        strange: what it said beside them.
        errors: place -> why an entry never came to the handler.
        whole: why the call failed.
    """

    said: set[str] | None = None
    strange: list[str] = field(default_factory=list)
    errors: dict[int, BaseException] = field(default_factory=dict)
    whole: BaseException | None = None


class Calls:
    """Runs calls in one slot."""

    def __init__(
        self,
        stream: str,
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
        batcher: Batcher,
        claim_again: Callable[[Sequence[Item]], None],
        envelope: Envelope,
        once: Once | None = None,
    ) -> None:
        """Bring together what a call passes through.

        Arguments:
            claim_again: takes entries that may not be ours any more.
            envelope: that entries are in.
            once: tells copies apart, None where they are handled like all others.
        """
        self._envelope, self._once = envelope, once
        self._ways, self._group, self._session, self._failures = ways, group, session, failures
        self._alarm, self._books, self._controls, self._fence = alarm, books, controls, fence
        self._nudge, self._batcher, self._claim_again = nudge, batcher, claim_again
        self._journal, self._desk, self._decode = slot.journal, slot.desk.view, serializer.decode
        self._asks = slot.ward.real[W.ASKED : W.ASKED + 1]
        self._message = BatchMessage.for_stream(stream, envelope)
        self._warned: dict[int, float] = {}  # whose result was complained about, and when: monotonic
        alarm.watch(Calls._call.__code__)

    @property
    def waiting(self) -> int:
        """Return how many entries wait for others."""
        return len(self._batcher)

    def sift(
        self, entries: Sequence[Raw], attempts: Sequence[int] | None, *, alone: bool
    ) -> tuple[Sequence[Raw], Sequence[int] | None]:
        """Let entries wait that are handled together, and return the others, with their attempts.

        Arguments:
            entries, attempts: ours at this moment; see `Runner.run`.
            alone: it is one entry, and it waits for no others.
        """
        batcher, asked, now = self._batcher, self._asks[0], monotonic()
        if batcher.asked != asked:
            self._claim_again(batcher.clear())
            batcher.asked = asked
        singles: list[Raw] = []
        numbers: list[int] = []
        for entry, attempt in zip(entries, attempts or [1] * len(entries), strict=True):
            key = self._ways.of(entry).key
            if key is None:
                singles.append(entry)
                numbers.append(attempt)
            elif alone:
                self.run(Load(key, (Item(entry, attempt, now),)))
            else:
                batcher.add(key, [(entry, attempt)], now)
        self._desk[D.HELD] = len(batcher)
        return singles, None if attempts is None else numbers

    def run(self, load: Load) -> None:
        """Handle the entries of a load, together; they wait again when the worker may not go on."""
        load = self._without_records(load)
        if not load.items:
            return
        if self._once is not None:
            load = self._without_copies(load, self._once)
        ids = [item.entry[0] for item in load.items]
        attempts = [item.attempt for item in load.items]
        number = self._books.open(ids, attempts, Kind.CALL)
        self._session.send()  # this may take long: what is done is acknowledged now
        # No user code runs between the last entry's end and our mark: a keeper that asks after this finds
        # at its second look that nothing may be lent. What one has asked for before may be lent by now.
        if self._asks[0] != self._batcher.asked:
            self._claim_again([*load.items, *self._batcher.clear()])
            return
        fence = self._fence
        if self._controls.stopping or not fence.is_open or fence.term != self._session.term:
            self._batcher.put_back(load)
            return
        self._desk[D.HELD], self._desk[D.STATE] = len(ids), DeskState.HANDLING
        if self._desk[D.MORE]:
            self._nudge.give()
        end = self._call(load, self._ways.batch(load.key))
        self._session.check()
        alone = self._batcher.alone.intersection(ids)
        self._batcher.alone -= alone
        self._note(load, end)
        outcomes = zip(ids, self._journal.outcomes[: len(ids)], strict=True)
        self._batcher.alone |= alone & {entry for entry, code in outcomes if code == Outcome.DEFERRED}
        self._settle(number, ids, attempts, self._books.row_of(load.items[0].entry))
        self._desk[D.HELD] = len(self._batcher)

    def record_waiting(self, now: float) -> None:
        """Write waiting records of what has been gathered for long, with the next write.

        Arguments:
            now: monotonic seconds.
        """
        items = self._batcher.to_record(now)
        if items:
            rows = {item.entry[0]: (item.attempt, 0.0) for item in items}
            self._batcher.recorded |= rows.keys()
            for part in parts(rows):
                self._session.owe(self._journal.number, self._group.let_wait(part))

    def _without_records(self, load: Load) -> Load:
        """Remove the waiting records of a load; return it without what may be others' by now."""
        recorded = self._batcher.recorded
        attempts = {item.entry[0]: item.attempt for item in load.items if item.entry[0] in recorded}
        if not attempts:
            return load
        try:
            results = self._session.in_parts(attempts, self._group.claim)
        except (Lost, Refused):
            self._batcher.put_back(load)
            raise
        recorded.difference_update(attempts)
        others = (Claimed.NOT_OURS, Claimed.GONE)
        gone = {entry for entry, code in zip(attempts, results, strict=True) if code in others}
        self._claim_again([item for item in load.items if item.entry[0] in gone])
        return Load(load.key, [item for item in load.items if item.entry[0] not in gone])

    def _without_copies(self, load: Load, once: Once) -> Load:
        """Return a load without the copies of its own entries: they wait for the outcome of the first."""
        copies = once.copies([item.entry for item in load.items])
        if copies:
            waiting = [item for item in load.items if item.entry[0] in copies]
            load = Load(load.key, [item for item in load.items if item.entry[0] not in copies])
            self._batcher.put_back(Load(load.key, waiting))
        once.begin([item.entry for item in load.items])
        return load

    def _call(self, load: Load, way: Way) -> _End:
        """Decode, call, and mark what is done; return why the others are not."""
        outcomes, marks, desk = self._journal.outcomes, self._journal.marks, self._desk
        end, call, code = _End(), Call(outcomes, self._nudge), 0
        messages: list[Any] = []
        rows: dict[int, list[bytes]] = {}  # of entries whose event has a circuit breaker, by its number
        self._alarm.limit_s = lambda _place: way.alarm_s
        marks[0] = monotonic()
        if way.timeout_s is not None:
            desk[D.LIMIT] = pack(load.items[0].entry[0], way.timeout_s)
        desk[D.RUNNING] = 1
        self._alarm.begin()
        try:
            for at, (entry, attempt, _) in enumerate(load.items):
                message: Any = self._message()
                message.entry, message.attempt, message.at, message.call = entry, attempt, at, call
                try:
                    self._open(message, rows)
                except Exception as error:
                    end.errors[at] = as_decode_error(error)
                else:
                    messages.append(message)
            result = way.call(messages) if messages else ()
            if result is not None:
                end.said, end.strange = said_done(result, [message.id for message in messages])
        except BaseException as error:  # whatever user code throws is a failure of all that is not marked
            end.whole = error
            code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
        if self._controls.stopping and self._controls.is_intruder:
            os._exit(code)
        self._alarm.end()
        self._tell_guard(rows, end.whole)
        call.close()
        if end.said:
            codes = outcomes[: len(load.items)].tolist()
            for message in messages:
                if message.id in end.said:
                    codes[message.at] = Outcome.DONE
            outcomes[: len(codes)] = bytes(codes)
        desk[D.RUNNING] = 0
        return end

    def _open(self, message: Any, rows: dict[int, list[bytes]]) -> None:
        """Make sure that a message may be handled, and decode it."""
        entry = message.entry
        if self._once is not None:
            self._once.refuse_copy(entry[0])
        guard = self._ways.guard
        if guard is not None and (row := self._ways.of(entry).breaker) is not None:
            guard.admit(row, entry[0])
            rows.setdefault(row, []).append(entry[0])
        content = self._envelope.unwrap(entry[1])
        message.attempt += content.retries
        message.data = content.decoded(self._decode)

    def _tell_guard(self, rows: dict[int, list[bytes]], error: BaseException | None) -> None:
        """Let the circuit breakers of a call's events know how it has ended: one failure for each of them."""
        guard = self._ways.guard
        if guard is None:
            return
        for row, called in rows.items():
            if error is None:
                guard.went_well(called)
            else:
                guard.failed(row, called, error)

    def _note(self, load: Load, end: _End) -> None:
        """Decide on all that is not done, and write it down."""
        way, outcomes = self._ways.batch(load.key), self._journal.outcomes
        left = [at for at in range(len(load.items)) if outcomes[at] == Outcome.OPEN]
        if end.said is None and end.whole is None and set(left) - end.errors.keys():
            end.whole = NotDone("the batch handler returned None, so nothing that it has not marked is done")
            self._warn(load.key, f"{way.name} returned None: return the ids that are done, or mark them")
        if end.strange:
            words = f"{way.name} returned what is no entry of its batch: {', '.join(end.strange[:3])}"
            self._warn(load.key, words)
        told = end.whole is None or len(load.items) == 1  # it is known whose failure it is
        words, trace = "", ""
        if end.whole is not None:
            words, trace = describe(end.whole), "" if isinstance(end.whole, NotDone) else story(end.whole)
        now = monotonic()
        for at in left:
            item, own = load.items[at], end.errors.get(at)
            if isinstance(own, Duplicate):
                outcomes[at] = Outcome.DUPLICATE
                continue
            if isinstance(own, BreakerOpen) and not own.dead:
                self._ways.defer(item.entry, item.attempt)
                self._failures.defer(item.entry[0], item.attempt)
                outcomes[at] = Outcome.DEFERRED
                continue
            earlier = self._envelope.retries(item.entry[1])
            error = own or end.whole or NotDone("not among the entries that the batch handler says are done")
            verdict = judge(error, item.attempt + earlier, way.retries, random.random)
            if verdict.outcome is not Outcome.WAITING and not told and own is None:
                outcomes[at] = Outcome.SUSPECT
                self._batcher.alone.add(item.entry[0])
                self._batcher.add(load.key, [(item.entry, item.attempt)], now)
                continue
            if own is not None or end.whole is None:
                words, trace = describe(error), ""
            self._failures.note(at, item.entry, item.attempt, earlier, way.retries, verdict, words, trace)
            if verdict.outcome is Outcome.WAITING:
                trace = ""  # once in the log is enough for all
        self._journal.marks[len(load.items)] = monotonic()

    def _settle(self, number: int, ids: list[bytes], attempts: list[int], row: int) -> None:
        """Have counted what has ended, and owe Redis what follows from it."""
        self._failures.tell(number)
        outcomes = self._books.book_call(number, ids, attempts, row)
        if self._once is not None:
            self._once.owe_acks(number, ids, outcomes)
            return
        acked = [entry for entry, code in zip(ids, outcomes, strict=True) if code in ACKED]
        if acked:
            self._session.owe_ack(number, self._group, acked)

    def _warn(self, key: int, words: str) -> None:
        """Complain about a handler, now and then."""
        now = monotonic()
        if now >= self._warned.get(key, 0.0):
            self._warned[key] = now + _WARN_AGAIN_S
            log.warning("%s; what is not done is tried again", words)
