"""The switchboard: the keeper's part in circuit breakers. What the slots suffer becomes known to the fleet,
and what the fleet has decided becomes known to the slots.

It asks Redis when a slot has something to say, and now and then for what others have done. While Redis is
away, the slots go by what was last known. All that must not be lost stands in the segment, not here:
whoever is keeper next goes on with it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..ipc.breakers import How, Row, Shown, State
from ..ipc.cells import K, Part
from ..ipc.segment import Segment
from ..ipc.slot import Slot
from ..streams.group import pack
from ..streams.wire import Lost, WrongServer
from ..worker.breaker import Asked, Breaker, Ended, Event, Failed, Limits, Phase, due_ms, runs
from .breakers import Breakers, Contended
from .complaints import LASTS_S, Complaints
from .line import Line
from .printable import one_line

log = logging.getLogger("rsq.keeper")

_LOOK_S, _CLOSED_S = 1.0, 2.0  # how often others' doings are looked for, while all are closed
_TROUBLE_S = 1.0
_PATIENCE_MS = 15_000  # a probe is given for so long, and put off while its process lives
_PUT_OFF_S = 5.0
_SHOWN = {Phase.CLOSED: Shown.CLOSED, Phase.OPEN: Shown.OPEN, Phase.HALF_OPEN: Shown.HALF_OPEN}
_WELL = {How.WELL: True, How.BADLY: False, How.NOT_RUN: None}


@dataclass(slots=True)
class _Seat:
    """What is known of a slot.

    Arguments:
        parts: of it.
        registered: the registration that `rows` are of.
        rows: its breakers.
        probe: number of the probe that runs; its begin and when to put off its end, monotonic seconds.
    """

    parts: Slot
    registered: int = 0
    rows: list[Row] = field(default_factory=list)
    probe: int = 0
    since: float = 0.0
    put_off: float = 0.0


class Switchboard:
    """The circuit breakers of one pool."""

    def __init__(
        self,
        title: str,
        names: tuple[str, str],
        segment: Segment,
        line: Line,
        wake: Callable[[], None],
        complaints: Complaints | None = None,
    ) -> None:
        """Ask nothing yet.

        Arguments:
            title: of the pool, for the log.
            names: of the stream and the group.
            segment: of the pool, open for writing.
            line: to the server; not one on which somebody waits.
            wake: lets all slots look at their switches.
            complaints: where errors go.
        """
        self._complaints = complaints or Complaints(title)
        self._title, self._names, self._segment, self._line, self._wake = title, names, segment, line, wake
        self._breakers = Breakers(*names, lambda *commands: line.call(*(pack(*words) for words in commands)))
        self._seats: dict[int, _Seat] = {}
        self._known: dict[str, Breaker] = {}
        self._look = self._pause = 0.0  # monotonic: when to look what others did; nothing before that
        self._scanned = False

    def glance(self, *, may_act: bool) -> float:
        """Hear what the slots say, if they say anything; return when to call this again, monotonic seconds.

        Arguments:
            may_act: this is the one keeper of the pool, and Redis answers.
        """
        now = time.monotonic()
        self._read_rows()
        if not may_act or not any(seat.rows for seat in self._seats.values()):
            return math.inf
        if now < self._pause:
            return self._pause
        try:
            if now >= self._look or self._has_news(now):
                if not self._line.connect(rest=False):
                    raise Lost(self._line.trouble)
                self._act(now)
                self._complaints.over(Part.BREAKERS)
        except (Lost, RuntimeError, Contended) as error:
            self._pause = time.monotonic() + _TROUBLE_S
            is_answer = isinstance(error, (WrongServer, RuntimeError))
            self._complaints.add(Part.BREAKERS, error, after_s=0.0 if is_answer else LASTS_S)
            return self._pause
        return min([self._look, *(seat.put_off for seat in self._seats.values() if seat.probe)])

    # What the slots say

    def _read_rows(self) -> None:
        """Find out which breakers there are."""
        segment = self._segment
        every = segment.wanted if self._scanned else segment.capacity
        self._scanned = True
        for number in range(every):
            if number not in self._seats and segment.used(number):
                self._seats[number] = _Seat(segment.slot(number))
        for seat in self._seats.values():
            strain = seat.parts.strain
            if strain.registered != seat.registered:
                registered, rows = strain.registered, strain.rows()
                if strain.registered == registered:
                    seat.rows = rows
                    seat.registered = registered if rows else 0  # it may only be at the beginning

    def _has_news(self, now: float) -> bool:
        for seat in self._seats.values():
            strain, switches = seat.parts.strain, seat.parts.switches
            if not seat.rows:
                continue
            asked, row = strain.question
            if switches.registered != seat.registered or (seat.probe and now >= seat.put_off):
                return True
            if asked not in (strain.answer[0], switches.granted) and self._is_due(seat, row):
                return True
            if switches.granted != switches.settled and strain.answer[0] == switches.granted:
                return True
            if any(strain.failures(at) != switches.told(at) for at in range(len(seat.rows))):
                return True
        return False

    def _is_due(self, seat: _Seat, row: int) -> bool:
        if row >= len(seat.rows):
            return False
        due = due_ms(self._known.get(_event(seat.rows[row]), Breaker()))
        return due is not None and self._breakers.now_ms >= due

    # What follows

    def _act(self, now: float) -> None:
        if now >= self._look:
            self._look_around()
            calm = all(breaker.phase is Phase.CLOSED for breaker in self._known.values())
            self._look = now + (_CLOSED_S if calm else _LOOK_S)
        for number, seat in self._seats.items():
            if seat.rows:
                self._tell_failures(seat)
                self._hear_end(number, seat)
        for number, seat in self._seats.items():
            if seat.rows:
                self._answer(number, seat, now)
                self._put_off(number, seat, now)
        self._publish()

    def _look_around(self) -> None:
        """See what others have done; let everybody see which breakers there are."""
        events = {_event(row) for _, row in self._all_rows()}
        found = self._breakers.everything(events)
        for event in events:
            self._note(event, found[event], "")

    def _tell_failures(self, seat: _Seat) -> None:
        strain, switches = seat.parts.strain, seat.parts.switches
        for at, row in enumerate(seat.rows):
            failures, told = strain.failures(at), switches.told(at)
            if failures != told:
                count = (failures - told) % 2**64
                why = f"{row.failures} failures within {row.window_ms / 1000:g} s"
                self._apply(row, Failed(count), why)
                switches.tell(at, failures)  # behind it: who dies in between counts some twice, none never

    def _hear_end(self, number: int, seat: _Seat) -> None:
        strain, switches = seat.parts.strain, seat.parts.switches
        (ended, how), (asked, at) = strain.answer, strain.question
        if ended != switches.granted or ended == switches.settled:
            return
        if asked == ended and at < len(seat.rows):
            well = _WELL[how]
            why = "a probe has failed" if well is False else "probes went well" if well else ""
            self._apply(seat.rows[at], Ended(self._who(number, ended), well), why)
        switches.settle(ended)
        seat.probe = 0

    def _answer(self, number: int, seat: _Seat, now: float) -> None:
        """Let a slot run a probe, if it has asked for one and it is time."""
        strain, switches = seat.parts.strain, seat.parts.switches
        asked, at = strain.question
        if asked in (strain.answer[0], switches.granted) or not self._is_due(seat, at):
            return
        if self._segment.slot_holder(number) is None:
            return  # it has died: its successor will ask
        who = self._who(number, asked)
        if runs(self._apply(seat.rows[at], Asked(who, _PATIENCE_MS), ""), who, self._breakers.now_ms):
            seat.probe, seat.since, seat.put_off = asked, now, now + _PUT_OFF_S
            switches.grant(asked)  # before the switch: who has asked is to see that it is because of this

    def _put_off(self, number: int, seat: _Seat, now: float) -> None:
        """Ask for more time for a probe that runs, while its process lives."""
        strain, switches = seat.parts.strain, seat.parts.switches
        asked, at = strain.question
        if asked != switches.granted or asked == strain.answer[0] or at >= len(seat.rows):
            seat.probe = 0
            return
        if seat.probe != asked:  # granted by a keeper before
            seat.probe, seat.since, seat.put_off = asked, now, 0.0
        if now < seat.put_off:
            return
        seat.put_off = now + _PUT_OFF_S
        lives = self._segment.slot_holder(number) is not None
        if lives and now < seat.since + seat.rows[at].limit_ms / 1000:
            self._apply(seat.rows[at], Asked(self._who(number, asked), _PATIENCE_MS), "")

    def _who(self, number: int, question: int) -> str:
        """Return the name of a probe; no other has it, in this fleet, ever."""
        return f"{self._segment.keep.view[K.TOKEN]:016x}:{number}:{question}"

    def _apply(self, row: Row, event: Event, why: str) -> Breaker:
        limits = Limits(row.failures, row.window_ms, row.reset_ms, row.successes)
        name = _event(row)
        found = self._breakers.apply(name, limits, event)
        self._note(name, found, why)
        return found

    def _note(self, event: str, found: Breaker, why: str) -> None:
        """Take note of what a breaker is now, and say what has changed."""
        before, self._known[event] = self._known.get(event), found
        was = Phase.CLOSED if before is None else before.phase
        if was is found.phase and (before is None or _kind(before) == _kind(found)):
            return
        name, because = one_line(event, 100), f": {why}" if why else ""
        if found.phase is Phase.CLOSED:
            log.warning("%s: circuit breaker of %s is closed%s", self._title, name, because)
        elif found.phase is Phase.HALF_OPEN:
            log.info("%s: circuit breaker of %s is half open, one entry is tried", self._title, name)
        elif found.until_ms is None:
            words = "%s: circuit breaker of %s is open by hand, until it is closed by hand"
            log.warning(words, self._title, name)
        else:
            wait_s = max(0.0, (found.until_ms - self._breakers.now_ms) / 1000)
            words = "%s: circuit breaker of %s is open%s; one entry is tried in %.1f s"
            log.warning(words, self._title, name, because, wait_s)

    def _publish(self) -> None:
        """Let the slots know what their breakers do."""
        now, now_ms = time.monotonic(), self._breakers.now_ms
        turned = False
        for seat in self._seats.values():
            if not seat.rows:
                continue
            switches = seat.parts.switches
            states = [_state(self._known.get(_event(row), Breaker()), now, now_ms) for row in seat.rows]
            if switches.registered == seat.registered:
                before = [switches.is_closed(seat.registered, at) for at in range(len(states))]
                turned = turned or before != [state.shown is Shown.CLOSED for state in states]
            switches.set(seat.registered, states)
        if turned:
            self._wake()

    def _all_rows(self) -> Iterator[tuple[_Seat, Row]]:
        return ((seat, row) for seat in self._seats.values() for row in seat.rows)


def _event(row: Row) -> str:
    return row.name.decode("utf-8", "surrogateescape")


def _kind(breaker: Breaker) -> tuple[int, bool]:
    """Return what tells two open breakers apart, for people: how often it has opened, and if by hand."""
    return breaker.opened, breaker.phase is Phase.OPEN and breaker.until_ms is None


def _state(breaker: Breaker, now: float, now_ms: int) -> State:
    due = due_ms(breaker)
    at = math.inf if due is None else now + (due - now_ms) / 1000
    return State(_SHOWN[breaker.phase], at, breaker.opened)
