"""The end of a pool: who may still finish, what is cut off, and what is put in order before it lets go. Pure.

A process that is cut off, dies, or is killed for its time limit leaves in the memory of its slot what it had
finished and what it held. The pool that stops forks one more process into such a slot: it acknowledges,
charges and hands back what there is, calls no handler, and ends. The instance lease is given back when every
slot is in order, or when its time to recover is over.
"""

from __future__ import annotations

from ..ipc.exitcodes import Cause
from .phases import Phases
from .states import Fork, Kill, KillStranger, Leave, Phase, Seat, Sight, TellKept


class Stopping(Phases):
    """What is left to do while the pool stops."""

    def press_on(self) -> None:
        """Kill what is late, recover what it leaves, and leave when nobody is left."""
        for slot, seat in self.state.seats.items():
            sight = self.sights.get(slot, Sight())
            if seat.alive and seat.killed is None and self.is_late(seat):
                self.cut_off(seat, sight)
            elif seat.phase is Phase.VACANT:
                self.recover(seat, sight)
        if not any(seat.alive or seat.phase is Phase.VACANT for seat in self.state.seats.values()):
            self.actions.append(Leave(self.state.code))

    def is_late(self, seat: Seat) -> bool:
        """Tell whether a process has used up its time; one that recovers a slot has time of its own."""
        if not seat.recovers:
            return self.now >= self.state.deadline
        if seat.recover_until is None:  # it was there before the pool was told to stop
            self.change(seat.slot, recover_until=self.now + self.rules.recover_s)
            return False
        return self.now >= seat.recover_until

    def cut_off(self, seat: Seat, sight: Sight) -> None:
        self.change(seat.slot, killed=Cause.SHUTDOWN)
        if sight.running and seat.booted:
            words = f"slot {seat.slot}: entry {sight.entry} is cut off, it is not charged for that"
            self.say("warning", words)
        explain = seat.booted or not sight.running
        self.actions.append(Kill(seat.slot, Cause.SHUTDOWN, explain=explain))

    def recover(self, seat: Seat, sight: Sight) -> None:
        """Put a slot in order that has no process of ours; close it when that is done or takes too long."""
        if sight.holder is not None:
            # A worker of a dead master: it drains by itself, and the lease is not given back under its hands.
            if self.now >= self.state.deadline and seat.killed is None:
                words = f"slot {seat.slot}: process {sight.holder}, of a former master, is cut off"
                self.say("warning", f"{words}; its entry is not charged for that")
                self.change(seat.slot, killed=Cause.SHUTDOWN)
                self.actions.append(KillStranger(seat.slot, sight.holder, sight.place, Cause.SHUTDOWN))
            return
        until = self.now + self.rules.recover_s if seat.recover_until is None else seat.recover_until
        if sight.held and self.now >= until:
            self.actions.append(TellKept(seat.slot))
        if not sight.held or self.now >= until:
            self.change(seat.slot, phase=Phase.CLOSED)
        elif self.now >= seat.due:
            self.change(seat.slot, phase=Phase.STARTING, recovers=True, recover_until=until)
            self.change(seat.slot, leave=Cause.CLEAN, finished=sight.finished, handed=sight.handed)
            self.change(seat.slot, wakes=0, killed=None)
            self.say("info", f"slot {seat.slot}: recovering what its process has left")
            self.actions.append(Fork(seat.slot, retire=True))
