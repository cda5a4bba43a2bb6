"""What happened: how an event changes what the master knows. Pure; the other half is `policy`.

An event that cannot be, such as the end of a process in a slot that has none, raises.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ..ipc.cells import Outside
from ..ipc.exitcodes import CONFIG, EXITED, NEVER_BOOTED, OK, RECYCLED, Cause, Death, describe
from .backoff import pause_s
from .scaling import Outlook
from .states import (
    Action,
    Drain,
    Event,
    Exited,
    Halted,
    Kill,
    Phase,
    Record,
    Reexec,
    Refused,
    ReopenLogs,
    Rules,
    Say,
    Seat,
    Sight,
    Signalled,
    Stage,
    State,
    Tell,
    TellKept,
    Thaw,
    Tried,
    Try,
    Unforkable,
    Wake,
)

BOOT_TRIES = 3
RECOVER_PAUSE_S = 0.5  # before a slot is recovered once more, which has just failed


@dataclass(slots=True)
class Happenings:
    """One step in the making."""

    state: State
    sights: Mapping[int, Sight]
    now: float
    rules: Rules
    draw: Callable[[], float]
    outlook: Outlook | None = None
    actions: list[Action] = field(default_factory=list)

    def seat(self, slot: int) -> Seat:
        return self.state.seats[slot]

    def change(self, slot: int, **values: object) -> None:
        seats = dict(self.state.seats)
        seats[slot] = replace(seats[slot], **values)  # type: ignore[arg-type]
        self.state = replace(self.state, seats=seats)

    def say(self, level: str, words: str) -> None:
        self.actions.append(Say(level, words))

    # What happened

    def take(self, event: Event) -> None:
        match event:
            case Signalled(name):
                getattr(self, f"on_{name.lower()}", lambda: None)()
            case Exited(slot, detail):
                self.on_exit(slot, detail)
            case Halted(slot):
                self.on_halt(slot)
            case Unforkable(slot, words):
                self.on_unforkable(slot, words)
            case Tried(words, code):
                self.on_tried(words, code)
            case Refused(words):
                self.on_refused(words)

    def on_sigterm(self) -> None:
        if self.state.told:  # the same request, as it went to every process
            self.state = replace(self.state, told=False)
        else:
            self.on_press()

    on_sigint = on_sigterm

    def on_drain(self) -> None:
        """Stop, as the root says: one request with a signal that comes before or after."""
        if self.state.stage is not Stage.STOPPING:
            self.on_press()
            self.state = replace(self.state, told=True)

    def on_press(self) -> None:
        if self.state.stage is Stage.STOPPING:
            self.say("warning", "asked to stop again: not waiting any longer")
            self.state = replace(self.state, deadline=self.now)
        else:
            self.say("info", f"stopping: what runs has {self.rules.drain_s:g} s to finish")
            self.stop(OK, self.rules.drain_s)

    def on_sigquit(self) -> None:
        self.stop(OK, 0.0)

    def on_sighup(self) -> None:
        # While slots still roll it is welcome: new code whose workers do not boot is mended by newer code.
        if self.state.stage is Stage.STOPPING:
            self.say("warning", "a reload was asked for while the pool stops: ignored")
        elif self.state.stage is Stage.STARTING:
            words = "a reload was asked for while the pool starts: it follows when every slot has booted"
            self.say("info", words)
            self.state = replace(self.state, reload_wanted=True)
        else:
            # Whoever asks again has newer code, or code at last whose import does not hang.
            more = "asked for again: trying the newest" if self.state.trial else "trying the new"
            self.say("info", f"reloading: {more} code in a fresh interpreter")
            self.state = replace(self.state, trial=True, reload_wanted=False)
            self.actions += [Tell("reloading"), Try()]

    def on_tried(self, words: str, code: str) -> None:
        if not self.state.trial:
            raise ValueError("new code was tried, but nobody had asked for that")
        if Try() in self.actions:
            return  # asked for again in this very step: the newest trial decides
        self.state = replace(self.state, trial=False)
        if self.state.stage is Stage.STOPPING:
            return
        if words:
            self.on_refused(words)
        else:
            self.actions.append(Reexec(code))

    def on_refused(self, words: str) -> None:
        self.say("error", f"reload refused, the old code goes on: {words}")
        self.actions += [Tell("reload failed"), Tell("ready")]

    def on_sigusr1(self) -> None:
        self.actions.append(ReopenLogs())

    def on_unforkable(self, slot: int, words: str) -> None:
        seat = self.seat(slot)
        if seat.phase is not Phase.STARTING:
            raise ValueError(f"slot {slot} could not be given a process, but none was to be: {seat.phase}")
        pause = max(1.0, pause_s(seat.fruitless + 1))
        self.change(slot, phase=Phase.VACANT, fruitless=seat.fruitless + 1, due=self.now + pause)
        self.say("error", f"slot {slot}: no process could be started: {words}")

    def on_exit(self, slot: int, detail: int) -> None:
        seat = self.seat(slot)
        if not seat.alive:
            raise ValueError(f"the process of slot {slot} ended, but it had none: {seat.phase}")
        sight = self.sights.get(slot, Sight())
        booted = seat.booted or sight.booted or detail == EXITED + RECYCLED  # which it says after its boot
        cause = self.cause(seat, sight, detail, booted)
        fruitful = sight.finished > seat.finished
        expected = cause in (Cause.CLEAN, Cause.RECYCLE, Cause.RELOAD)
        if cause is Cause.STUCK and seat.phase is Phase.DRAINING:
            expected = True  # it had handed back all it held, or its successor will
        # The entry that still counts as running may be the predecessor's: then its reason stays.
        explain = booted or not sight.running
        self.actions.append(Record(slot, Death(cause, detail), explain=explain))
        if not explain:
            words = f"slot {slot}: a new process ended before it could recover: {describe(detail)}"
            self.say("warning", words)
        told = seat.retire or seat.recovers or seat.phase is Phase.DRAINING
        failed = not booted and not (expected and told)
        if failed or not expected:
            doing = f" while handling entry {sight.entry}" if sight.running and booted else ""
            words = "killed, its entry belongs to another instance" if seat.robbed else _words(cause, detail)
            self.say("error", f"slot {slot}: its process died: {words}{doing}")
        fruitless = 0 if fruitful or (expected and not failed) else seat.fruitless + 1
        stopping, beyond = self.state.stage is Stage.STOPPING, slot >= self.state.wanted
        if stopping:
            closed, due = not self.is_recoverable(seat, sight, expected), self.now
            if seat.recovers:
                due += max(RECOVER_PAUSE_S, pause_s(fruitless))
        else:
            # What it could not hand back, because Redis was away, is its own successor's to hand back.
            closed, due = beyond and expected and not sight.held, self.now + pause_s(fruitless)
            if beyond and expected and sight.held:
                due = self.now + max(RECOVER_PAUSE_S, pause_s(seat.fruitless + 1))
                fruitless = seat.fruitless + 1
            elif closed:
                self.change(0, wakes=self.seat(0).wakes + 1)
                self.actions.append(Wake(0))
        self.change(
            slot,
            phase=Phase.CLOSED if closed else Phase.VACANT,
            retire=stopping or beyond,
            recovers=False,
            due=due,
            fruitless=fruitless,
            boot_failures=seat.boot_failures + failed,
            booted=False,
            killed=None,
            fresh=True,
            frozen_at=None,
            fenced=False,
            robbed=False,
            outside=(Outside.NONE, 0.0),
            watched=0,
            watched_s=0.0,
            baseline=None,
        )
        self.give_up(detail)

    def is_recoverable(self, seat: Seat, sight: Sight, expected: bool) -> bool:
        """Tell, in a pool that stops, whether a slot without a process needs one that recovers it.

        A process that was there for just that and ended by itself has found no way to Redis in its time: what
        it leaves is said, and kept in the memory of the slot.
        """
        if not sight.held or self.state.code != OK:
            return False
        if seat.recovers and expected:
            self.actions.append(TellKept(seat.slot))
            return False
        return True

    def cause(self, seat: Seat, sight: Sight, detail: int, booted: bool) -> Cause:
        if seat.killed is not None and detail < EXITED:
            return seat.killed
        if seat.phase is Phase.DRAINING and detail == signal.SIGTERM:
            return Cause.SHUTDOWN  # our own signal: user code has put its default action back
        if sight.running and booted:
            return Cause.CRASH
        if detail == EXITED + OK:
            return seat.leave if seat.phase is Phase.DRAINING else Cause.CLEAN
        if detail == EXITED + RECYCLED:
            return seat.leave if seat.phase is Phase.DRAINING else Cause.RECYCLE
        return Cause.CRASH if detail < EXITED else Cause.ERROR

    def give_up(self, detail: int) -> None:
        """End the pool when it can never work: a wrong configuration, or no slot ever boots."""
        if self.state.booted_once or self.state.stage is Stage.STOPPING:
            return
        if detail == EXITED + CONFIG:
            self.stop(CONFIG, 0.0)
        elif all(self.seat(slot).boot_failures >= BOOT_TRIES for slot in range(self.state.wanted)):
            words = f"no slot could boot, each failed {BOOT_TRIES} times: giving up; see the errors above"
            self.say("error", words)
            self.stop(NEVER_BOOTED, 0.0)

    def on_halt(self, slot: int) -> None:
        seat = self.seat(slot)
        if seat.frozen_at is None:
            return
        sight = self.sights.get(slot, Sight())
        if sight.running and sight.place == seat.watched:
            self.kill_for_time(seat, sight)
        else:  # it finished in the last moment
            self.change(slot, frozen_at=None, watched=0, watched_s=0.0)
            self.actions.append(Thaw(slot))

    def kill_for_time(self, seat: Seat, sight: Sight) -> None:
        words = f"slot {seat.slot}: entry {sight.entry} ran longer than {seat.allowed_s:g} s: killed"
        self.say("error", words)
        self.change(seat.slot, killed=Cause.TIMEOUT, frozen_at=None)
        self.actions.append(Kill(seat.slot, Cause.TIMEOUT, seat.watched))

    def stop(self, code: int, patience_s: float) -> None:
        if self.state.stage is Stage.STOPPING:
            code = self.state.code  # the first reason counts
        else:
            self.actions.append(Tell("stopping"))
        self.state = replace(
            self.state, stage=Stage.STOPPING, code=code, deadline=self.now + patience_s, rolling=False
        )
        for slot, seat in self.state.seats.items():
            if seat.phase is Phase.VACANT:
                sight = self.sights.get(slot, Sight())
                waits = self.state.code == OK and (sight.held or sight.holder is not None)
                self.change(slot, phase=Phase.VACANT if waits else Phase.CLOSED, retire=True, due=self.now)
            elif seat.phase is not Phase.CLOSED and not seat.recovers:
                self.change(slot, phase=Phase.DRAINING, leave=Cause.CLEAN)
                self.actions.append(Drain(slot))


def _words(cause: Cause, detail: int) -> str:
    """Return how a process ended, for the log."""
    if cause is Cause.TIMEOUT:
        return "killed, its handler ran too long"
    if cause is Cause.STUCK:
        return "killed, it did not start or end in time"
    if cause is Cause.SHUTDOWN:
        return "killed, the pool had to stop"
    return describe(detail)
