"""The phases of a worker's life in which no handler runs: each has a limit. Pure.

    FORK, IMPORT, START     --start-timeout    until a new process runs our code; import; worker_start hooks
    (boot)                  none               it waits for Redis and for the instance lease, and says so
    DRAIN                   DRAIN_S            our own code: all its waits have limits that are far shorter
    STOP, END               --end-timeout      worker_stop hooks; the event loop, threads, exit functions

A handler that runs while its process is told to end has the limit of its entry: see `limit_time`. What is
killed here has no entry in the hands of user code, so nothing is charged.
"""

from __future__ import annotations

from ..ipc.cells import Outside
from ..ipc.exitcodes import Cause
from .sizing import Sizing
from .states import Kill, Phase, Seat, Sight, Stage

DRAIN_S = 60.0
NOTICE_S = 10.0  # a phase that takes longer is mentioned, at half of its limit at the latest
GAP_S = 2.0  # a master that has slept for longer does not count that time

_WORDS = {
    Outside.FORK: ("its new process has not begun to run our code", "--start-timeout"),
    Outside.IMPORT: ("the import of its handler has not ended", "--start-timeout"),
    Outside.START: ("its worker_start hook has not ended", "--start-timeout"),
    Outside.STOP: ("its worker_stop hook has not ended", "--end-timeout"),
    Outside.END: ("its process does not end (event loop, threads, exit functions)", "--end-timeout"),
    Outside.DRAIN: ("its process was told to end and does not", ""),
}


class Phases(Sizing):
    """Looks at what takes long that is no handler."""

    def limit_phases(self) -> None:
        gap = self.now - self.state.last if self.state.last else 0.0
        passed = gap if gap <= GAP_S else 0.0
        for slot, seat in self.state.seats.items():
            if seat.phase is Phase.DRAINING and not seat.drains_at:
                self.change(slot, drains_at=self.now)
            elif seat.phase is not Phase.DRAINING and seat.drains_at:
                self.change(slot, drains_at=0.0, drain_told=False)
            self.mention_long_drain(self.seat(slot), self.sights.get(slot, Sight()))
            if seat.alive and seat.killed is None:
                self.watch_phase(self.seat(slot), self.sights.get(slot, Sight()), passed)

    def mention_long_drain(self, seat: Seat, sight: Sight) -> None:
        """Say once of a process that is to be replaced that it still waits for a handler."""
        if self.state.stage is Stage.STOPPING or seat.drain_told or not sight.running:
            return
        if seat.drains_at and self.now >= seat.drains_at + NOTICE_S:
            self.change(seat.slot, drain_told=True)
            limit_s = self.rules.timeout_s if sight.limit_s is None else sight.limit_s
            words = f"for {limit_s:g} s (--timeout)" if limit_s else "without a limit (--timeout 0)"
            told = f"was told to end {NOTICE_S:g} s ago, entry {sight.entry} still runs; it may run {words}"
            self.say("warning", f"slot {seat.slot}: its process {told}")

    def watch_phase(self, seat: Seat, sight: Sight, passed: float) -> None:
        what = (sight.outside, sight.outside_at)
        if sight.outside is Outside.NONE and seat.phase is Phase.DRAINING and not sight.running:
            what = (Outside.DRAIN, 0.0)
        if what[0] is Outside.NONE:
            if seat.outside[0] is not Outside.NONE:
                self.change(seat.slot, outside=what)
            return
        if what != seat.outside:
            self.change(seat.slot, outside=what, outside_s=0.0, outside_told=False)
            return
        so_far = seat.outside_s + passed
        self.change(seat.slot, outside_s=so_far)
        limit_s = self.limit_of(what[0])
        words, option = _WORDS[what[0]]
        by = f" ({option})" if option else ""
        if so_far >= limit_s:
            self.say(
                "error",
                f"slot {seat.slot}: {words} after {limit_s:g} s{by}: killed, nothing is charged for it",
            )
            self.change(seat.slot, killed=Cause.STUCK)
            self.actions.append(Kill(seat.slot, Cause.STUCK, explain=seat.booted or not sight.running))
        elif not seat.outside_told and so_far >= min(NOTICE_S, limit_s / 2):
            self.change(seat.slot, outside_told=True)
            if self.state.stage is not Stage.STOPPING:
                self.say(
                    "warning",
                    f"slot {seat.slot}: {words} after {so_far:.0f} s; killed after {limit_s:g} s{by}",
                )

    def limit_of(self, what: Outside) -> float:
        if what in (Outside.FORK, Outside.IMPORT, Outside.START):
            return self.rules.start_s
        return DRAIN_S if what is Outside.DRAIN else self.rules.end_s
