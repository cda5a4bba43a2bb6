"""The guard: keeps entries from handlers whose circuit breaker is not closed, and lets probes through.

An entry that is kept is deferred: it stays pending, in hand, and is started when the breaker closes. Nothing
of it is on record but what the server has, its owner and the number of the attempt that comes next: a
successor finds it among the pending entries, asks the guard, and defers it again.

What a breaker does is decided for the whole fleet. The keeper of the pool says so by its switches, and hears
of failures and probes by what is written here: see `ipc.breakers`.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

from ..ipc.breakers import How, Switch
from ..ipc.cells import D
from ..ipc.journal import JOURNAL_MAX
from ..ipc.nudge import Nudge
from ..ipc.slot import Slot
from .fuse import Fuse, WhileOpen
from .verdict import LAZY, BreakerOpen, Reject, Retry, never_ran

DEFERRED_MAX = 65_536  # entries of one slot, in its memory; beyond that it stops reading
_ASKED_S = 0.01  # how often the answer to a question is looked for
_LOOK_S = 1.0  # the same for a breaker that somebody else may close


class Question(Enum):
    """What is going on about a probe of a breaker."""

    NONE = auto()
    ASKED = auto()
    GRANTED = auto()
    ELSEWHERE = auto()  # about another breaker: a slot asks for one at a time


class Act(Enum):
    """What to do with the entries that a breaker defers."""

    WAIT = auto()
    RELEASE = auto()  # they may run, or are dead-lettered
    ASK = auto()  # for a probe
    PROBE = auto()  # run one of them
    WITHDRAW = auto()  # ask no longer


def decide(switch: Switch, question: Question, while_open: WhileOpen, *, any_deferred: bool) -> Act:
    """Return what to do about a breaker. Pure.

    Arguments:
        switch: what it does.
        question: what is going on about a probe.
        while_open: see `fuse.Breaker`.
        any_deferred: some entries wait for it.
    """
    if question is Question.GRANTED:
        return Act.PROBE if any_deferred else Act.WITHDRAW
    if question is Question.ASKED and (switch is not Switch.READY or not any_deferred):
        return Act.WITHDRAW
    if not any_deferred:
        return Act.WAIT
    if switch is Switch.CLOSED or (switch is Switch.OPEN and while_open == "dead-letter"):
        return Act.RELEASE
    if switch is Switch.READY and question is Question.NONE:
        return Act.ASK
    return Act.WAIT


def is_failure(error: BaseException) -> bool:
    """Tell whether an error says something about what a handler depends on. What it asks for does not."""
    return not isinstance(error, Retry | Reject)


class Guard:
    """The breakers of one slot's handlers."""

    def __init__(self, fuses: Sequence[Fuse], slot: Slot, nudge: Nudge) -> None:
        """Register them; until the keeper has said what they do, all of their entries are deferred.

        Arguments:
            fuses: one at least.
            slot: whose handlers these are.
            nudge: wakes the keeper.

        Raises:
            ValueError: they have no room in the segment.
        """
        self._fuses, self._nudge, self._pid = fuses, nudge, os.getpid()
        self._strain, self._switches, self._desk = slot.strain, slot.switches, slot.desk.view
        self._rows = {fuse.event: row for row, fuse in enumerate(fuses)}
        self._deferred: list[deque[tuple[bytes, int]]] = [deque() for _ in fuses]
        self.ids: set[bytes] = set()  # of what is deferred
        asked, row = self._strain.question
        left = asked != self._strain.answer[0]
        # A predecessor has died with this question; its row may be another's by now. Of what was granted, it
        # may have died.
        tried = self._name(row) if asked == self._switches.granted else b""
        self._left = (asked, tried) if left else None
        self._asked: tuple[int, int] | None = None  # number of our question, and row
        self._probe: bytes | None = None  # the entry that may run although the breaker is not closed
        self._desk[D.DEFERRED] = 0
        self._strain.register([fuse.row for fuse in fuses])
        self._registered = self._strain.registered
        nudge.give()

    def __len__(self) -> int:
        """Return how many entries are deferred."""
        return len(self.ids)

    def row(self, event: bytes | None) -> int | None:
        """Return the number of an event's breaker, None if it has none."""
        return None if event is None else self._rows.get(event)

    # Around a call of user code

    def guarded(self, call: Callable[[Any], Any], row: int) -> Callable[[Any], Any]:
        """Return a call of a handler of one message that a breaker can prevent, by `BreakerOpen`."""

        def run(message: Any) -> Any:
            entry = message.entry[0]
            self.admit(row, entry)
            try:
                result = call(message)
                if type(result) in LAZY:
                    raise never_ran(result)
            except BaseException as error:
                self.failed(row, (entry,), error)
                raise
            self.went_well((entry,))
            return result

        return run

    def admit(self, row: int, entry: bytes) -> None:
        """Let an entry through, or not.

        Raises:
            BreakerOpen: it may not run now.
        """
        if self._switches.is_closed(self._registered, row) or entry == self._probe:
            return
        dead = False
        if self._fuses[row].while_open == "dead-letter":
            switch = self._switch(row)
            # One is kept for the next probe.
            dead = switch is Switch.OPEN or (switch is Switch.READY and bool(self._deferred[row]))
        raise BreakerOpen(dead=dead)

    def failed(self, row: int, entries: Sequence[bytes], error: BaseException) -> None:
        """Note that a call has raised: a failure, or the bad end of a probe.

        Arguments:
            row: of its breaker.
            entries: that were in the call.
            error: what it raised.
        """
        if os.getpid() != self._pid:
            return  # a copy of the worker that the handler has forked
        bad = is_failure(error)
        if self._probe in entries:
            self._end(How.BADLY if bad else How.NOT_RUN)
        elif bad:
            self.count(row)

    def went_well(self, entries: Sequence[bytes]) -> None:
        """Note that a call has returned."""
        if self._probe is not None and self._probe in entries and os.getpid() == self._pid:
            self._end(How.WELL)

    def count(self, row: int) -> None:
        """Count a failure."""
        self._strain.failed(row)
        self._nudge.give()

    # What is deferred

    def defer(self, row: int, entry: bytes, attempt: int) -> None:
        """Keep an entry, for the attempt of that number, until it may run."""
        if entry not in self.ids:
            self.ids.add(entry)
            self._deferred[row].append((entry, attempt))
            self._desk[D.DEFERRED] = len(self.ids)

    @property
    def attempts(self) -> list[tuple[bytes, int]]:
        """Return (id, attempt) of what is deferred."""
        return [item for waiting in self._deferred for item in waiting]

    def take(self, now: float, most: int) -> tuple[list[tuple[bytes, int]], bool]:
        """Return (id, attempt) of entries to be claimed and handled, and whether it is one as a probe.

        Arguments:
            now: monotonic seconds.
            most: how many at most.
        """
        if not self.ids and self._asked is None:
            return [], False
        for row, waiting in enumerate(self._deferred):
            switch, question = self._switch(row, now), self._question(row)
            act = decide(switch, question, self._fuses[row].while_open, any_deferred=bool(waiting))
            if act is Act.RELEASE:
                return self._pop(row, most), False
            if act is Act.PROBE:
                page = self._pop(row, 1)
                self._probe = page[0][0]
                return page, True
            if act is Act.ASK:
                self._asked = self._strain.ask(row), row
                self._nudge.give()
            elif act is Act.WITHDRAW:
                self._end(How.NOT_RUN)
        return [], False

    def over(self) -> None:
        """Note that the probe that was taken has had its chance, whether it came to run or not."""
        if self._probe is not None:
            self._end(How.NOT_RUN)

    def clear(self) -> None:
        """Forget what is deferred: it is found among the pending entries again, or is not ours any more."""
        for waiting in self._deferred:
            waiting.clear()
        self.ids.clear()
        self._desk[D.DEFERRED] = 0

    def close(self) -> None:
        """Ask for nothing any more: the worker ends."""
        self.clear()
        if self._asked is not None:
            self._end(How.NOT_RUN)

    # For the loop

    def may_read(self, now: float) -> bool:
        """Tell whether new entries may be read.

        An event whose breaker pauses the pool forbids it, but for one that can be the next probe.
        """
        if len(self.ids) + 2 * JOURNAL_MAX > DEFERRED_MAX:
            return False
        for row, fuse in enumerate(self._fuses):
            if fuse.while_open == "pause" and not self._switches.is_closed(self._registered, row):
                wanted = self._switch(row, now) is Switch.READY and not self._deferred[row]
                if not wanted:
                    return False
        return True

    @property
    def is_paused(self) -> bool:
        """Tell whether a breaker pauses the pool, so that what is read at all is read one by one."""
        return any(
            fuse.while_open == "pause" and not self._switches.is_closed(self._registered, row)
            for row, fuse in enumerate(self._fuses)
        )

    def due(self, now: float) -> float:
        """Return when to look again, in monotonic seconds; infinity while nothing is waited for."""
        if self._asked is not None:
            return now + _ASKED_S
        wait_s = math.inf
        for row, waiting in enumerate(self._deferred):
            if not waiting and self._fuses[row].while_open != "pause":
                continue
            switch = self._switch(row, now)
            if switch is Switch.UNKNOWN or (switch is Switch.READY and waiting):
                wait_s = min(wait_s, _ASKED_S)
            elif switch is not Switch.CLOSED:  # one that is ready looks for an entry to try: by reading
                left_s = self._switches.due(row) - now if switch is Switch.OPEN else _LOOK_S
                wait_s = min(wait_s, _LOOK_S, max(_ASKED_S, left_s))
        return now + wait_s

    # After the death of a predecessor

    def charged(self, row: int | None) -> None:
        """Note that a process has died in the handler of an entry, and how a probe of its has ended.

        Arguments:
            row: of the entry's breaker, None for an entry without one.
        """
        if row is None:
            return
        if self._left is not None and self._left[1] == self._fuses[row].event:
            self._strain.end(self._left[0], How.BADLY)
            self._left = None
            self._nudge.give()
        else:
            self.count(row)

    def recovered(self) -> None:
        """Note that all is known about how the predecessor has died."""
        if self._left is not None:
            self._strain.end(self._left[0], How.NOT_RUN)
            self._left = None
            self._nudge.give()

    def _end(self, how: How) -> None:
        self._probe = None
        if self._asked is not None:
            self._strain.end(self._asked[0], how)
            self._asked = None
            self._nudge.give()

    def _question(self, row: int) -> Question:
        if self._asked is None:
            return Question.NONE
        number, about = self._asked
        if about != row:
            return Question.ELSEWHERE
        return Question.GRANTED if self._switches.granted == number else Question.ASKED

    def _switch(self, row: int, now: float | None = None) -> Switch:
        return self._switches.get(self._registered, row, now)

    def _pop(self, row: int, most: int) -> list[tuple[bytes, int]]:
        waiting = self._deferred[row]
        page = [waiting.popleft() for _ in range(min(most, len(waiting)))]
        self.ids.difference_update(entry for entry, _ in page)
        self._desk[D.DEFERRED] = len(self.ids)
        return page

    def _name(self, row: int) -> bytes:
        rows = self._strain.rows()
        return rows[row].name if row < len(rows) else b""
