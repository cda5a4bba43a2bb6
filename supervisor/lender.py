"""The lender: while one entry of a slot takes long, those behind it go to slots that are idle.

    keeper                                          worker
    sees that an entry has run for long
    stores ASKED                                    stores the mark of an entry, then compares ASKED:
    waits, and reads the rows of the slot           changed: starts nothing that it has not claimed again,
    looks again: the same entry still runs?         and a claim touches the row
    lends what has not been touched since

Either the worker's mark is seen at the second look, or the worker sees ASKED changed: it cannot be that
neither happens. So from the second look on no row is started that has not been touched after it was read, and
the script, however late it comes, leaves rows alone that were touched. See docs/decisions/0008-lending.md.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..ipc.cells import D, DeskState, K, P, Part, PoolState, S, SeatState, W, count_up
from ..ipc.fence import Fence
from ..ipc.journal import JOURNAL_MAX, WAITING_MAX
from ..ipc.ledger import INDEX_BITS
from ..ipc.loans import LOANS_MAX
from ..ipc.segment import Segment
from ..ipc.slot import Slot
from ..streams import keys
from ..streams.lending import Lending, Row, rows
from ..streams.wire import Lost, WrongServer
from .acknowledger import Acknowledger, Refused
from .complaints import LASTS_S, Complaints
from .lending import deal, lendable
from .line import Line
from .settings import Pool

log = logging.getLogger("rsq.keeper")

LONG_S = 0.01  # an entry runs for long: to wait for more would cost more than to move what is behind it
_LONG_MAX_S, _WARY_S = 0.02, 5.0  # the same where it was over too soon: its process only waited for a core
# Between two glances while some slot has more than it runs. Else it is calm, until a worker gives a nudge.
QUICK_S, SLOW_S = 0.01, 0.05  # with somebody idle a moment ago, with nobody
_CALM_AFTER_S, _SLOW_AFTER_S = 0.1, 1.0
_BARRIER_S = 0.001  # until a store of ours is seen by a process that runs on, and the reverse
_PAGE = 1024  # rows of a slot
_REST_S = 1.0  # with nobody idle here, what waits so long is for idle slots of the fleet
_AGAIN_FIRST_S, _AGAIN_MAX_S = 0.05, 1.0  # before a slot is looked at again where nothing was found
_TROUBLE_S = 1.0
_HANDED_S = 0.1  # so late a slot may notice that it was handed entries


@dataclass(frozen=True, slots=True)
class Long:
    """An entry that runs for long in a slot."""

    slot: int
    parts: Slot
    place: int
    since: float
    entry: bytes

    @property
    def first(self) -> bytes:
        """Return where to begin among what the slot has pending: many that wait would fill the page."""
        desk = self.parts.desk.view
        return self.entry if desk[D.WAITING] + desk[D.DEFERRED] > _PAGE // 2 else b"-"


class Lender:
    """Lends between the slots of one pool."""

    def __init__(
        self,
        pool: Pool,
        segment: Segment,
        line: Line,
        ring: Callable[[], None],
        complaints: Complaints | None = None,
    ) -> None:
        """Look at nothing yet.

        Arguments:
            pool: whose entries these are.
            segment: of that pool, open for writing.
            line: to the server, of its own: another may be waiting on the keeper's.
            ring: wakes the master.
            complaints: where errors go.
        """
        source = pool.spec.source
        self._complaints = complaints or Complaints("")
        self._segment, self._line, self._ring, self._instance = segment, line, ring, source.instance
        self._fence, self._keep = Fence(segment.keep), segment.keep.view
        self._commands = Lending(source.stream, source.group)
        self._acks = Acknowledger(source, self._fence, line, self._complaints)
        used = (number for number in range(segment.capacity) if segment.used(number))
        self._slots = {number: segment.slot(number) for number in used}
        self._calm_from = self._slow_from = 0.0  # monotonic
        self._handed: dict[int, tuple[int, float]] = {}  # slot -> how often it was handed entries, seen when
        self._doubted: dict[int, Long] = {}  # slot -> asked because of it; it may have been over just then
        self._wary: dict[int, tuple[float, float]] = {}  # slot -> what is long there, until when
        self._again: dict[int, tuple[int, float, float]] = {}  # slot -> place, not before, pause
        self._rested: dict[int, tuple[int, float]] = {}  # slot -> place, not before: with nobody idle
        self._asked, self._turn = 0.0, 0
        self._due = 0.0  # of the next glance, monotonic

    def glance(self, *, may_lend: bool) -> float:
        """Look at the slots if it is time: one that takes long may hold up others.

        What was finished before it is acknowledged, what waits behind it is lent.

        Arguments:
            may_lend: nobody else is the keeper of this pool.

        Returns:
            When to call this again, monotonic seconds; infinity: whenever there is another reason.
        """
        now = time.monotonic()
        if now < self._due:
            return self._due
        self._keep[K.CALM] = 1  # before we look: see `ipc.nudge`
        found = self._long(now)
        if self._acks.due < math.inf:
            self._calm_from = now + _CALM_AFTER_S
        if now >= self._calm_from:
            self._slow_from = now + _SLOW_AFTER_S
            return math.inf
        self._keep[K.CALM] = 0
        if self._any_idle():
            self._slow_from = now + _SLOW_AFTER_S
        self._due = now + (QUICK_S if now < self._slow_from else SLOW_S)
        if now < self._acks.due < self._due:
            self._due = self._acks.due
        self._acks.send(now)
        state = self._segment.pool.view[P.STATE]
        if found and may_lend and state in (PoolState.RUNNING, PoolState.RELOADING):
            try:
                self._lend(found, now)
            except Lost as error:
                answered = isinstance(error, (Refused, WrongServer))
                self._complaints.add(Part.LENDING, error, after_s=0.0 if answered else LASTS_S)
                self._due = time.monotonic() + _TROUBLE_S
        return self._due

    def _long(self, now: float) -> list[Long]:
        """Return what runs for long with something behind it."""
        for number in range(self._segment.wanted):
            if number not in self._slots and self._segment.used(number):
                self._slots[number] = self._segment.slot(number)
        found = []
        for number, slot in self._slots.items():
            self._acks.look(number, slot, now)
            desk, handed = slot.desk.view, slot.ward.view[W.HANDED]
            if handed != self._handed.get(number, (0, 0.0))[0]:
                self._handed[number] = handed, now
                self._calm_from = now + _CALM_AFTER_S
            if number in self._doubted:
                self._judge(self._doubted[number], now)
            more = desk[D.HELD] > slot.journal.together() or desk[D.MORE]
            if more and desk[D.HELD]:  # or is about to run: its nudge comes before it does
                self._calm_from = now + _CALM_AFTER_S
            if desk[D.RUNNING] != 1 or not (more or number in self._handed):
                continue
            place = slot.journal.place()
            if place is None or now - place[1] < self._long_s(number, now):
                continue
            unseen = number in self._handed and self._handed[number][1] > place[1] - _HANDED_S
            again = self._again.get(number)
            if (more or unseen) and not (again and again[0] == place[0] and now < again[1]):
                found.append(Long(number, slot, *place))
        return found

    def _long_s(self, slot: int, now: float) -> float:
        """Return how long an entry runs for long in a slot."""
        long_s, until = self._wary.get(slot, (LONG_S, 0.0))
        return long_s if now < until else LONG_S

    def _judge(self, one: Long, now: float) -> None:
        """Learn whether an entry was long indeed: to ask in vain costs its worker a claim of all it has."""
        long_s, place = self._long_s(one.slot, now), one.parts.journal.place()
        if now - one.since >= 3 * long_s:
            self._wary.pop(one.slot, None)
        elif place is None or place[0] != one.place or one.parts.desk.view[D.RUNNING] != 1:
            self._wary[one.slot] = min(2 * long_s, _LONG_MAX_S), now + _WARY_S
        else:
            return
        del self._doubted[one.slot]

    def _any_idle(self) -> bool:
        return any(slot.desk.view[D.STATE] == DeskState.IDLE for slot in self._slots.values())

    def _idle(self) -> list[int]:
        """Return the slots that wait for work, those first that were served last the last time."""
        segment = self._segment
        found = []
        for number, slot in self._slots.items():
            desk, seat = slot.desk, slot.seat.view
            if number >= segment.wanted or seat[S.STATE] != SeatState.RUNNING:
                continue
            if desk.view[D.STATE] != DeskState.IDLE or desk.view[D.RUNNING] or not desk.view[D.CONNECTED]:
                continue
            if desk.view[D.WAITING] > WAITING_MAX - 2 * JOURNAL_MAX:
                continue  # it waits for its retries: all of a batch might fail, and it has no room for that
            if desk.real[D.BOOTED] and segment.slot_holder(number) == desk.view[D.PID]:
                found.append(number)
        self._turn += 1
        start = self._turn % len(found) if found else 0
        return found[start:] + found[:start]

    def _lend(self, found: Sequence[Long], now: float) -> None:
        idle = self._idle()
        if not idle:
            found = [one for one in found if now - one.since >= _REST_S and not self._has_rested(one, now)]
        if not found or not self._fence.is_open:
            return
        if not self._line.connect(rest=False):  # the keeper waits for us, and a beat may be due
            raise Lost(self._line.trouble)
        term = self._fence.term
        for one in found:
            # Looked at before, stored after: a batch that begins later is not taken for the one we saw. No
            # value comes twice, so a store that comes late cannot undo another.
            self._asked = max(time.monotonic(), math.nextafter(self._asked, math.inf))
            one.parts.ward.real[W.ASKED] = self._asked
            self._doubted[one.slot] = one
        time.sleep(_BARRIER_S)
        replies = self._line.call(
            *(self._commands.held(self._name(one.slot), one.first, _PAGE) for one in found)
        )
        shares: list[tuple[Long, int, list[Row]]] = []
        for one, reply in zip(found, replies, strict=True):
            mine = self._free(one, reply, now, resting=bool(idle))
            for target, part in deal(mine, idle or [one.slot], LOANS_MAX // 2).items():
                shares.append((one, target, part))
            idle = idle[len(mine) % len(idle) :] + idle[: len(mine) % len(idle)] if idle else idle
        if shares and self._fence.is_open and self._fence.term == term:
            self._send(shares)

    def _has_rested(self, one: Long, now: float) -> bool:
        """Tell whether what waits in a slot was put to rest just now, else note that it is."""
        place, until = self._rested.get(one.slot, (0, 0.0))
        if place == one.place and now < until:
            return True
        self._rested[one.slot] = one.place, now + _AGAIN_MAX_S
        return False

    def _free(self, one: Long, reply: Any, now: float, *, resting: bool) -> list[Row]:
        """Return what may be lent of a slot: nothing if its worker has gone on."""
        if isinstance(reply, Exception):
            raise Refused(str(reply))
        slot = one.parts
        batches, waiting = slot.journal.batches(), slot.waiting.ids()
        place = slot.journal.place()
        runs_on = slot.desk.view[D.RUNNING] == 1 and place is not None
        if not runs_on or not place or place[:2] != (one.place, one.since):
            return []
        if not batches or batches[-1].number != one.place >> INDEX_BITS:
            return []
        # What a circuit breaker defers is in no table: only what is named is certainly nothing of it.
        most = 0 if slot.desk.view[D.DEFERRED] else _PAGE
        found = lendable(batches, waiting, rows(reply), most)
        if not resting:
            found = [row for row in found if not row.rests]
        if not found and resting:
            before, _, pause = self._again.get(one.slot, (0, 0.0, 0.0))
            pause = min(2 * pause, _AGAIN_MAX_S) if before == one.place else _AGAIN_FIRST_S
            self._again[one.slot] = one.place, now + pause, pause
        return found

    def _send(self, shares: Sequence[tuple[Long, int, list[Row]]]) -> None:
        for one, target, part in shares:
            ward = one.parts.ward.view
            if ward[W.RUNS_ON] != one.place - 1:  # else this mark only says that the one before it has ended
                ward[W.RUNS_ON] = one.place
            one.parts.loans.add((row.entry for row in part), rest=target == one.slot)
        commands = [
            self._commands.lend(self._name(one.slot), self._name(to), part, old=self._is_old(to))
            for one, to, part in shares
        ]
        try:
            replies = self._line.call(*commands)
        except Lost:  # of what was lent all the same, nobody else would tell who got it
            for _, target, _ in shares:
                count_up(self._slots[target].ward.view, W.HANDED)
            self._ring()
            raise
        refused: Exception | None = None
        for (one, target, part), reply in zip(shares, replies, strict=True):
            codes = [0] * len(part) if isinstance(reply, Exception) else reply
            one.parts.loans.strike(row.entry for row, code in zip(part, codes, strict=True) if not code)
            lent = sum(codes)
            if lent:
                count_up(self._slots[target].ward.view, W.HANDED)
            if isinstance(reply, Exception):
                refused = reply
            if lent and target != one.slot:
                count_up(one.parts.ward.view, W.LENT, lent)
                words = "slot %d: %d entries behind one that takes long are lent to slot %d"
                log.debug(words, one.slot, lent, target)
        self._ring()
        if refused is not None:
            raise Refused(str(refused))
        self._complaints.over(Part.LENDING)

    def _is_old(self, slot: int) -> bool:
        """Tell whether a slot's process is of a version that does not know the owners that have a mark."""
        desk = self._slots[slot].desk.view
        return desk[D.MARKS] != desk[D.PID]

    def _name(self, slot: int) -> str:
        return keys.consumer(self._instance, slot)
