"""The crew: the slots of a pool, as its keeper sees them and what it does for them."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..ipc.cells import D, DeskState, K, S, W, count_up
from ..ipc.exitcodes import Cause
from ..ipc.fence import Fence
from ..ipc.ledger import C
from ..ipc.segment import Segment
from ..streams import beat, fleet, keys, marks
from ..streams.group import Group, info_rows
from ..worker.recovery import from_table

log = logging.getLogger("rsq.keeper")
_LOOK_AT = 50  # entries of a slot in a beat


class Crew:
    """All slots of a pool."""

    def __init__(self, segment: Segment, name: str, let_go_beats: int, beat_s: float) -> None:
        """Look at them.

        Arguments:
            segment: of the pool, open for writing.
            name: of the instance, for the log.
            let_go_beats: for how many beats a slot may have no working process.
            beat_s: how long a beat takes when nothing comes in between.
        """
        self._segment, self._fence, self._name, self._most = segment, Fence(segment.keep), name, let_go_beats
        self._beat_s, self._counted = beat_s, 0.0
        self._down: dict[int, int] = {}  # slot -> beats
        self._told: set[int] = set()
        self._rested: dict[int, tuple[int, int]] = {}  # slot -> entries that rest, beats since it was woken
        self._stopped: dict[int, int] = {}  # slot -> pid of a stranger that we have stopped
        self._strays: set[int] = set()  # closed slots whose consumers may hold entries
        self.states: dict[int, str] = {}

    def look(self) -> tuple[list[int], list[int]]:
        """Return the slots whose entries are to be renewed, and those that are to be let go; per beat.

        Beats that follow a word, or a beat that failed, do not count as time that a slot was down; nor does
        that without the lease, in which no slot can boot.
        """
        segment, wanted = self._segment, self._segment.wanted
        slots: list[int] = []
        gone: list[int] = []
        self.states = {}
        counts = self._fence.holds and time.monotonic() > self._counted + 0.9 * self._beat_s
        if counts:
            self._counted = time.monotonic()
        for number in range(segment.capacity):
            used = segment.used(number)
            if not used and number >= wanted:
                continue
            state = self._state(number) if used else fleet.DOWN
            if number < wanted:
                self.states[number] = state
            elif state == fleet.DOWN and not segment.slot(number).desk.view[D.HOLDS]:
                continue  # closed in good order
            self._down[number] = self._down.get(number, 0) + counts if state == fleet.DOWN else 0
            if state != fleet.DOWN:
                self._told.discard(number)
            (gone if self._down[number] > self._most else slots).append(number)
        self._strays = {number for number in self._strays if self._is_stray(number)}
        return slots, [*gone, *sorted(self._strays - set(gone))]

    def find_strays(self, source: tuple[str, str, str], call: Callable[..., list[Any]]) -> bool:
        """Look for entries held by slots that this pool does not have: it was larger once, on a lost host.

        Arguments:
            source: stream, group, instance.
            call: asks the server.
        """
        stream, group, instance = source
        (reply,) = call(Group(stream, group, "").consumers())
        if isinstance(reply, Exception):
            return False
        for row in info_rows(reply):
            seat = keys.seat(row[b"name"].decode("utf-8", "surrogateescape"))
            if seat is not None and seat[0] == instance and row[b"pending"] and self._is_stray(seat[1]):
                self._strays.add(seat[1])
        return bool(self._strays)

    def _is_stray(self, number: int) -> bool:
        segment = self._segment
        if number < segment.wanted:
            return False
        if not segment.used(number):
            return True
        return not segment.slot(number).desk.view[D.HOLDS] and segment.slot_holder(number) is None

    def _state(self, number: int) -> str:
        desk = self._segment.slot(number).desk
        holder = self._segment.slot_holder(number)
        if holder is None or desk.view[D.PID] != holder or not desk.real[D.BOOTED]:
            return fleet.DOWN
        busy = desk.view[D.RUNNING] or desk.view[D.STATE] == DeskState.HANDLING
        return fleet.BUSY if busy else fleet.IDLE

    def let_go(self, slots: Sequence[int], counts: Sequence[int]) -> None:
        """Say what became of slots that nobody works in, once for each."""
        found = 0
        for slot, count in zip(slots, counts, strict=True):
            if count and slot not in self._strays:
                # The worker's cell, but the slot has none. Others may finish its entries from now on: a
                # successor that misses them must not call them lost.
                self._segment.slot(slot).desk.view[D.TERM] = 0
            if slot in self._strays:
                found += count
                if not count:
                    self._strays.discard(slot)
            elif count and slot not in self._told:
                self._told.add(slot)
                log.error(
                    "slot %d of %s has no working process for four leases: its %d entries are for other"
                    " slots to take, each charged an attempt and run alone", slot, self._name, count,
                )  # fmt: skip
        if found:
            log.warning(
                "%s: %d entries were held by slots that this pool does not have, on a host whose memory is"
                " lost: others may take them, each charged an attempt and run alone", self._name, found,
            )  # fmt: skip

    def hand(self, slots: Sequence[int]) -> None:
        """Count for slots that there are entries for them to take into hand."""
        for slot in slots:
            if self._segment.used(slot):
                count_up(self._segment.slot(slot).ward.view, W.HANDED)

    def rested(self, slots: Sequence[int], counts: Sequence[int]) -> list[int]:
        """Return the slots that have nothing to do while entries rest there, others than the last time.

        Suspects may rest for long, until they can be run alone: who waits for that is woken now and then.
        """
        found = []
        for slot, count in zip(slots, counts, strict=True):
            seen, beats = self._rested.get(slot, (0, 0))
            if count and self.states.get(slot) == fleet.IDLE and (count != seen or beats >= self._most):
                found.append(slot)
                beats = 0
            self._rested[slot] = (count, beats + 1)
        return found

    def find_taken(self, source: tuple[str, str, str], call: Callable[..., list[Any]]) -> list[int]:
        """Return slots in which entries wait for another attempt that are not pending there any more.

        Somebody outside the fleet has taken them off the list. A few of each slot are looked at.

        Arguments:
            source: stream, group, instance.
            call: asks the server.
        """
        stream, group, instance = source
        asked: list[tuple[int, bytes]] = []
        for number in self._used():
            if self._segment.slot(number).desk.view[D.WAITING] and self._state(number) != fleet.DOWN:
                waiting = self._waiting(number)
                few = random.sample(waiting, min(_LOOK_AT, len(waiting)))
                asked += [(number, entry) for entry in few]
        if not asked:
            return []
        replies = call(*(beat.owner(stream, group, entry) for _, entry in asked))
        found: dict[int, set[bytes]] = {}
        for (number, entry), reply in zip(asked, replies, strict=True):
            if not isinstance(reply, Exception) and not beat.is_of(reply, keys.consumer(instance, number)):
                found.setdefault(number, set()).add(entry)
        # A row goes before its entry runs: while it is there, the entry is pending.
        return [number for number, missing in found.items() if missing.intersection(self._waiting(number))]

    def _waiting(self, number: int) -> list[bytes]:
        """Return what waits for another attempt in a slot, not for its dead letter."""
        rows = self._segment.slot(number).waiting.load()
        return [entry for entry, (value, _) in rows.items() if from_table(value)[1] is None]

    def marks(self) -> int:
        """Return which marks of entries all processes read; in a reload some may be older."""
        desks = [self._segment.slot(n).desk.view for n in self._used() if self._state(n) != fleet.DOWN]
        return marks.VERSION if all(desk[D.MARKS] == desk[D.PID] for desk in desks) else 0

    def lost(self) -> tuple[int, float]:
        """Return how many entries the slots have lost, and when that was last seen to grow, Unix seconds."""
        keep = self._segment.keep
        count = sum(self._segment.slot(n).ledger.read()[0].counters[C.LOST] for n in self._used())
        if count != keep.view[K.LOST]:
            keep.view[K.LOST], keep.real[K.LOST_AT] = count, time.time()
        return count, keep.real[K.LOST_AT]

    def find_robbed(self, source: tuple[str, str, str], call: Callable[..., list[Any]]) -> None:
        """Write down whose entry belongs to another by now, while its handler still runs.

        Arguments:
            source: stream, group, instance.
            call: asks the server.
        """
        stream, group, instance = source
        places: list[tuple[int, int]] = []
        asks = []
        for number in self._used():
            place = self._running(number)
            if place is not None:
                journal = self._segment.slot(number).journal
                for entry in journal.open_ids() or (place[2],):
                    places.append((number, place[0]))
                    asks.append(beat.owner(stream, group, entry))
        for (number, at), reply in zip(places, call(*asks) if asks else [], strict=True):
            if not isinstance(reply, Exception) and not beat.is_of(reply, keys.consumer(instance, number)):
                self._segment.slot(number).ward.view[W.ROBBED] = at

    def mind_strangers(self, *, orphaned: bool) -> None:
        """Do for workers of a dead master what the master does for its own when the fence opens and closes.

        Arguments:
            orphaned: our own master is dead, so every worker is one of those.
        """
        holds = self._fence.holds
        for number in self._used():
            pid = self._segment.slot_holder(number)
            seat = self._segment.slot(number).seat.view
            if pid is None or (not orphaned and seat[S.PID] == pid):
                self._stopped.pop(number, None)
                continue
            place = self._running(number)
            if not holds:
                if place is not None and self._stopped.get(number) != pid:
                    self._stopped[number] = pid
                    self._signal(number, pid, signal.SIGSTOP)
                    log.warning(
                        "slot %d: process %d, of a dead master, is stopped until the lease is back",
                        number,
                        pid,
                    )
            elif place is not None and place[0] == self._segment.slot(number).ward.view[W.ROBBED]:
                log.error(
                    "slot %d: process %d runs an entry that belongs to another instance: killed", number, pid
                )
                seat[S.DETAIL], seat[S.CAUSE] = signal.SIGKILL, Cause.SHUTDOWN  # nobody is charged for it
                self._signal(number, pid, signal.SIGKILL)
            else:  # whoever has stopped it may be dead too
                self._stopped.pop(number, None)
                self._signal(number, pid, signal.SIGCONT)

    @property
    def is_empty(self) -> bool:
        """Tell whether nobody sits in any slot."""
        return all(self._segment.slot_holder(number) is None for number in self._used())

    def most_attempts(self) -> int:
        """Return how many attempts an entry may have, as the workers say; 0 when none has said it."""
        return max((self._segment.slot(number).desk.view[D.MOST] for number in self._used()), default=0)

    def _used(self) -> list[int]:
        return [number for number in range(self._segment.capacity) if self._segment.used(number)]

    def _running(self, number: int) -> tuple[int, float, bytes] | None:
        """Return the place in the journal of what user code is at; not of a dead process of the slot."""
        if self._state(number) == fleet.DOWN:
            return None
        slot = self._segment.slot(number)
        return slot.journal.place() if slot.desk.view[D.RUNNING] == 1 else None

    def _signal(self, slot: int, pid: int, number: signal.Signals) -> None:
        """Signal the process in a slot: by a descriptor, for its pid may be another's by now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if not hasattr(os, "pidfd_open"):
                os.kill(pid, number)
                return
            handle = os.pidfd_open(pid)
            try:
                if self._segment.slot_holder(slot) == pid:
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)
