"""The consumer: read, handle, acknowledge, until told to stop.

One write to Redis per batch: what was finished is acknowledged in the same write that asks for
more. While the handler is fast, the next read goes out before the current batch is handled.
"""

from __future__ import annotations

import logging
import os
import time

from ..ipc.cells import D, DeskState, count_up
from ..ipc.fence import Fence
from ..ipc.nudge import Nudge
from ..ipc.slot import Slot
from ..ipc.soundness import go_on_with_memory
from ..streams.envelope import ENVELOPES
from ..streams.group import Group, entries
from ..streams.keys import consumer
from ..streams.serializers import Serializer
from ..streams.wire import Lost
from .alarm import Alarm
from .backlog import Backlog
from .batcher import Batcher
from .books import Books
from .calls import Calls
from .claims import Claims, Siblings
from .controls import Controls
from .estate import Estate
from .failures import Failures
from .mender import Mender
from .once import of_slot
from .pace import Pace
from .patience import Patience
from .runner import Runner
from .session import (
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    REPLY_TIMEOUT_S,
    Ask,
    Misconfigured,
    Refused,
    Session,
    good,
    wait_readable,
)
from .shelf import Due, Shelf
from .spec import Spec
from .standby import Standby
from .ways import Ways

log = logging.getLogger(__name__)

_DRAIN_S = 3.0  # to reach Redis once more at the end; without it the journal keeps what is owed
_POLL_EMPTY_S = 0.1
_ZOMBIE_MARGIN_S = 2.0
_LANE_S = 0.2
_FOR_GOOD = ("WRONGTYPE", "NOPERM", "NOAUTH", "WRONGPASS")


class Consumer:
    """The loop of one slot."""

    def __init__(
        self,
        spec: Spec,
        number: int,
        slot: Slot,
        ways: Ways,
        serializer: Serializer,
        controls: Controls,
        siblings: Siblings,
        fence: Fence,
        nudge: Nudge,
    ) -> None:
        """Prepare; nothing is connected and nothing is read."""
        self._fence = fence
        name = consumer(spec.source.instance, number)
        self._spec, self._number, self._slot, self._controls = spec, number, slot, controls
        self._siblings, self._desk, self._guard = siblings, slot.desk.view, ways.guard
        slot.ledger.load()
        slot.desk.view[D.MOST] = ways.most
        self._group = Group(spec.source.stream, spec.source.group, name)
        self._session = Session(
            spec.source.target, name, slot.desk, slot.ledger, controls.watch, controls.look,
            controls.stopping, fence,
        )  # fmt: skip
        real = slot.desk.real
        self._pace = Pace(spec.reading, real[D.HANDLER_S], real[D.ENTRY_BYTES], ways.quota)
        self._shelf = Shelf(slot.waiting)
        stories = siblings.stories(number)
        self._books = Books(spec, slot, self._group, self._session, self._shelf, self._pace, stories)
        envelope, once = ENVELOPES[spec.work.envelope], of_slot(spec, slot, ways, self._group, self._session)
        self._batcher = Batcher(ways.gathers)
        self.backlog = Backlog(
            ways, slot, self._group, self._session, self._shelf, self._books, self._batcher, stories, once
        )
        failures = Failures(slot.journal, self._group, self._session, self._shelf, self._books, envelope)
        alarm = Alarm(ways.alarm_s, slot.journal, controls)
        self._calls = Calls(
            spec.source.stream, slot, ways, serializer, self._group, self._session, failures, alarm,
            self._books, controls, fence, nudge, self._batcher, self.backlog.claim_again, envelope, once,
        )  # fmt: skip
        self._runner = Runner(
            spec, slot, ways, serializer, self._group, self._session, failures, alarm, self._books, controls,
            fence, nudge, self.backlog.todo, self.backlog.kept, self._calls, once,
        )  # fmt: skip
        self._claims = Claims(
            slot, siblings, self._group, self._session, self._shelf, self._books, self._runner,
            self.backlog.kept, ways,
        )  # fmt: skip
        self._mender = Mender(spec.source, slot, self._group, self._session)
        self._standby = Standby(name, slot, self._session, self.backlog, controls, fence)
        self._estate = Estate(spec.source.instance, siblings, self._group, self._session, self.backlog)
        self._read: Ask | None = None  # the read whose reply is still to come
        self._count = 0  # that it asks for
        self._asked = 0.0  # `Runner.asked` when it was sent
        self._received = 0  # bytes of this connection up to the last read's reply
        self._audits: list[float] = []
        self._heard = -1 if number == 0 else 0  # wakes met; slot 0 begins with one, for closed slots

    def boot(self, *, first: bool) -> bool:
        """Connect, make sure of the group, wait for the instance lease, and recover what a predecessor left.

        Arguments:
            first: nobody in this pool has ever been connected.

        Returns:
            False when the worker was told to stop before it was done.

        Raises:
            Misconfigured: only with `first`: the server refuses us for good.
        """
        while not self._controls.stopping and self._session.connect(first=first):
            try:
                self._mender.ensure_group()
                if not self._standby.wait_for_lease():
                    return False
                go_on_with_memory(self.backlog.recover)
            except (Lost, Refused) as error:
                if first and str(error).startswith(_FOR_GOOD):
                    raise Misconfigured(
                        f"{self._spec.source.target}: stream {self._group.stream}: {error}"
                    ) from error
                self._mender.mend(error)
            else:
                self._mender.restored()
                return True
        return False

    def run(self) -> None:
        """Work until the controls say stop."""
        while not self._controls.stopping:
            trouble: Exception | None = None
            try:
                self._turn()
            except (Lost, Refused) as error:
                trouble = error
            # Outside of the handler: what fails next is not to be explained by what failed before.
            if trouble is not None and not self._controls.stopping:
                self._mender.mend(trouble)
                self._reconnect()

    def drain(self) -> bool:
        """Acknowledge what is finished and hand back the rest; False when Redis could not be told."""
        self._desk[D.STATE] = DeskState.DRAINING
        self._books.count()
        if not self._fence.unchanged(self._session.term):
            log.warning("ended without the instance lease: the journal keeps what is finished")
            return False
        deadline = time.monotonic() + _DRAIN_S
        self._session.hurry(deadline)
        patience = Patience(BACKOFF_FIRST_S, BACKOFF_MAX_S)
        while time.monotonic() < deadline:
            try:
                # What a read still brings now is only seen in the pending list.
                self._session.finish(min(deadline, time.monotonic() + 1))
                if not self._session.connect(give_up=deadline):
                    break
                self._session.settle()
                back = self.backlog.hand_back()
            except (Lost, Refused) as error:
                words = self._session.words(error)
                if patience.is_news(words, time.monotonic()):
                    log.warning("handing back: %s", words)
                left = max(0.0, deadline - time.monotonic())
                self._session.rest(min(patience.pause_s(), left), until_stopping=False)
            else:
                if back:
                    log.info("handed back %d entries, their attempt counts as they were", back)
                self._session.finish(deadline)
                return True
        log.warning(
            "ended without Redis: finished entries are in the journal, the next process acknowledges them"
        )
        return False

    def _turn(self) -> None:
        """Do one thing: the first of these that there is to do."""
        self._controls.restore()
        self._controls.glance()  # while replies come without a pause, nothing else would
        if self._controls.is_intruder:
            os._exit(0)
        if self._controls.stopping:
            return  # what said so is read off its descriptor: no wait would end for it
        now = time.monotonic()
        if self._standby.is_wanted:
            if self._standby.wait():
                self._reconnect()
                self._standby.look_again()
        elif self._heard < self._controls.wakes and not self.backlog.resting:
            wakes = self._controls.wakes
            self._stop_waiting()
            self.backlog.resting = True
            if self._number == 0:
                self._estate.adopt()
            self._heard = self._desk[D.WAKES] = wakes
        elif self._audit_is_due(now) and self._read is None:
            self._audits.pop(0)
            self.backlog.audit()
        elif self._run_waiting(now):
            pass
        elif len(self._shelf) and not self._shelf.has_room():
            self._wait_for_due(now)
        elif self.backlog.todo:
            most = self._pace.count(self._spec.reading.batch_max)
            todo = self.backlog.todo
            page = [todo.popleft() for _ in range(min(most, len(todo)))]
            self._note_more()
            self._claims.run(page)
        elif self.backlog.resting:
            self.backlog.rest()
        elif self.backlog.suspects and self._read is None and self._claims.run_suspect(self.backlog.suspects):
            pass
        elif self._read is None and not self._may_read(now):
            self._wait_for_due(now)
        else:
            self._read_and_run(now)

    def _run_waiting(self, now: float) -> bool:
        """Handle what has waited for its company, its time or its breaker; False if nothing has to be run."""
        self._calls.record_waiting(now)
        most = self._pace.count(self._spec.reading.batch_max)
        if load := self._batcher.take(now, hurry=self._must_hurry, most=self._pace.left):
            self._note_more()
            self._calls.run(load)
        elif due := self._shelf.take(now, most):
            self._retry(due)
        elif self._guard is not None and (found := self._guard.take(now, most))[0]:
            self._note_more()
            try:
                self._claims.run(found[0], alone=found[1])
            finally:
                self._guard.over()
        else:
            return False
        return True

    def _read_and_run(self, now: float) -> None:
        """Get the reply of a read, send the next one if it is worth it, handle the entries."""
        if self._read is None:
            self._send_read(self._block_ms(now))
        read, count, asked = self._read, self._count, self._asked
        assert read is not None
        self._desk[D.STATE] = DeskState.IDLE
        if not self._session.wait(read, interruptible=True):
            return
        self._read = None
        # Since the last read's reply: that of a read sent ahead comes in while others are waited for.
        received = self._session.wire.received if self._session.wire else 0
        size, self._received = received - self._received, received
        found = entries(good(read.reply))
        self._mender.restored()
        self._pace.received(len(found), size, count)
        if not found:
            waits = len(self._shelf) or len(self._batcher) or (self._guard is not None and len(self._guard))
            busy = waits or self._audits or self._session.oldest_debt() or self.backlog.suspects
            self._desk[D.SETTLED] = 0 if busy else 1
            count_up(self._desk, D.EMPTY_READS)
            return
        self._desk[D.SETTLED] = 0
        self._slot.desk.real[D.ENTRY_BYTES] = self._pace.entry_bytes
        # What a read sent ahead brings is pending and not yet seen: an audit would take it for stranded.
        quiet = self._audit_is_due(now) or self.backlog.resting or self.backlog.suspects
        if self._runner.asked != asked:  # sent ahead of a batch that ran long: these may be lent by now
            self.backlog.claim_first(found)
            return
        if self._pace.ahead(len(found), count) and self._has_room and self._may_read(now) and not quiet:
            self._send_read(None)
        elif self._session.is_owing:
            self._session.send()  # no read takes it along, and what was read may take long
        self._note_more()
        self._runner.run(found)

    @property
    def _has_room(self) -> bool:
        """Tell whether all that a further read brings could fail and be written down."""
        return self._shelf.has_room(len(self._batcher))

    def _may_read(self, now: float) -> bool:
        return self._guard is None or self._guard.may_read(now)

    @property
    def _must_hurry(self) -> bool:
        """Tell whether what is gathered waits for no more: a suspect has to be alone, or there is no room."""
        return bool(self.backlog.suspects) or not self._has_room

    def _note_more(self) -> None:
        """Tell the keeper, before a batch runs, whether more than it may lie here if it runs long."""
        more = self._read is not None or self.backlog.todo or len(self._batcher)
        self._desk[D.MORE] = 1 if more else 0

    def _audit_is_due(self, now: float) -> bool:
        return bool(self._audits) and now >= self._audits[0]

    def _stop_waiting(self) -> None:
        """Take back a read that waits for an empty stream: whatever is sent behind it would wait too."""
        if self._read is not None and self._read.patience_s > REPLY_TIMEOUT_S:
            self._session.finish(time.monotonic() + 1)
            self._reconnect()

    def _send_read(self, block_ms: int | None) -> None:
        most, least = self._spec.reading.batch_max, self._batcher.missing
        self._count = self._pace.count(most, self._siblings.any_idle, least)
        if self._guard is not None and self._guard.is_paused:
            self._count = 1  # for a probe
        self._asked = self._runner.asked
        patience = REPLY_TIMEOUT_S + (block_ms or 0) / 1000
        self._read = Ask(self._group.read(self._count, block_ms), patience)
        self._session.send(self._read)

    def _block_ms(self, now: float) -> int | None:
        """Return how long to wait for an empty stream."""
        block_ms = int(self._block_s(now) * 1000)
        return block_ms if block_ms > 0 else None  # BLOCK 0 would be for ever

    def _block_s(self, now: float) -> float:
        """Return how long nothing has to be done but to read: no longer than until the next retry."""
        block_s = _POLL_EMPTY_S if self._spec.reading.until_empty else self._spec.reading.block_s
        audit = self._audits[0] if self._audits and self._read is None else None
        for due in (self._shelf.next_due, self._batcher.wake, audit):
            if due is not None:
                block_s = min(block_s, due - now)
        if self._guard is not None:
            block_s = min(block_s, self._guard.due(now) - now)
        if self.backlog.suspects:  # another slot has the lane
            block_s = min(block_s, _LANE_S)
        return block_s

    def _wait_for_due(self, now: float) -> None:
        """Too many entries wait, or a breaker pauses the pool: read nothing new.

        Else the pending list would grow without end; the stream can keep what nobody can handle.
        """
        self._desk[D.SETTLED] = 0
        self._session.send()
        self._session.settle()
        if self._controls.stopping:
            return  # as in `_turn`
        self._desk[D.STATE] = DeskState.IDLE
        wait_readable(self._controls.watch, max(0.0, self._block_s(now)))
        self._controls.look()

    def _retry(self, due: list[Due]) -> None:
        """Handle entries whose time has come; write dead letters that could not be written before."""
        self._desk[D.SETTLED] = 0
        letters = [item.letter for item in due if item.letter is not None]
        if letters:
            ids, attempts = [letter.entry for letter in letters], [letter.attempt for letter in letters]
            self._books.finish(ids, attempts, letters[0].outcome, dict(enumerate(letters)))
        again = [(item.entry, item.attempt) for item in due if item.letter is None]
        if again:
            self._note_more()
            self._claims.run(again)

    def _reconnect(self) -> None:
        """Go on with a new connection: nothing finished is forgotten, nothing delivered overlooked."""
        self._read, self._received = None, 0
        if not self._session.connect():
            return
        self.backlog.resting = True  # one may have been on its way into our hand
        now = time.monotonic()
        # Again when the server must have noticed the end of the old connection's blocked read.
        self._audits = [now, now + self._spec.reading.block_s + _ZOMBIE_MARGIN_S]
