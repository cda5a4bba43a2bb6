"""The policy: what the master does, as a function of what it sees. Pure; read this first.

    step(state, events, sights, now) -> (state, actions)

No fork, no clock, no file, no Redis in here. An event says what happened, a sight what the shared
memory shows of a slot at this moment, an action what the shell has to do. A slot's life:

    VACANT --fork--> STARTING --booted--> RUNNING --told to drain--> DRAINING --exit--> VACANT
       ^                 |                   |                           |
       +-----exit--------+-------exit--------+                           +--> CLOSED (retired, stopping)

What is killed is killed for a reason that is written down first: the successor charges the entry
that was running only for a crash or a time-out, never for our own haste.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ..ipc.exitcodes import OK, Cause, Death
from .scaling import Outlook
from .states import (
    Action,
    Drain,
    Event,
    Fork,
    Freeze,
    Kill,
    KillStranger,
    Phase,
    Record,
    Rules,
    Seat,
    Sight,
    Stage,
    State,
    Tell,
    Thaw,
    Wake,
)
from .stopping import Stopping

TICK_S = 1.0  # the longest the master sleeps
FREEZE_S = 1.0  # how long a stopped process may take to be seen as stopped


def begin(
    rules: Rules, found: Sequence[int] | None = None, dirty: Sequence[int] = (), wanted: int | None = None
) -> State:
    """Return the first state of a master.

    Arguments:
        rules: what the operator asked for.
        found: slots in which workers of this very process, before it re-executed itself, run on; perhaps
            none just then. None when this is no reload.
        dirty: slots beyond the wanted ones whose memory tells of entries in hand.
        wanted: how many slots to begin with, None for what the rules say.
    """
    wanted = rules.workers if wanted is None else wanted
    seats = {slot: Seat(slot) for slot in range(wanted)}
    for slot in found or ():
        seats[slot] = Seat(slot, Phase.STARTING, fresh=False)  # whether it has booted is seen at once
    for slot in dirty:
        seats.setdefault(slot, Seat(slot, retire=True))
    reloaded = found is not None
    return State(
        seats,
        wanted,
        Stage.RUNNING if reloaded else Stage.STARTING,
        booted_once=reloaded,
        rolling=reloaded,
    )


def step(
    state: State,
    events: Sequence[Event],
    sights: Mapping[int, Sight],
    now: float,
    rules: Rules,
    draw: Callable[[], float],
    trust_s: float = math.inf,
    outlook: Outlook | None = None,
) -> tuple[State, list[Action]]:
    """Return the next state and what to do.

    Arguments:
        state: from the step before, or `begin`.
        events: what happened since, in order.
        sights: of every slot in the state, taken after the events.
        now: monotonic seconds.
        rules: what the operator asked for.
        draw: returns a number in [0, 1).
        trust_s: how long the instance lease may still be trusted; not positive when it may not.
        outlook: what waits for the pool; None when that is not known or not asked for.

    Raises:
        ValueError: an event that cannot be, such as the exit of a process in a vacant slot.
    """
    turn = _Turn(replace(state, until=now + trust_s), sights, now, rules, draw, outlook)
    for event in events:
        turn.take(event)
    turn.note_sleep()
    turn.note_boots()
    turn.limit_time()
    turn.limit_phases()
    turn.mind_fence()
    turn.hand_over()
    if turn.state.stage is Stage.STOPPING:
        turn.press_on()
    else:
        turn.watch_load()
        turn.shrink()
        turn.roll()
        turn.recycle()
        turn.fill()
        turn.end_when_empty()
    turn.announce()
    return replace(turn.state, last=now), turn.actions


def next_deadline(state: State, rules: Rules, now: float) -> float:
    """Return when the next step is due even if nothing happens."""
    when = now + (TICK_S if rules.scale is None else rules.scale.look_s)
    for seat in state.seats.values():
        if seat.phase is Phase.VACANT and state.stage is not Stage.STOPPING and not seat.told_held:
            when = min(when, seat.due)
        if seat.watched_s and seat.allowed_s:
            when = min(when, now + max(0.01, seat.allowed_s - seat.watched_s))
        if seat.frozen_at is not None:
            when = min(when, seat.frozen_at + FREEZE_S)
        if seat.alive and state.until > now:
            when = min(when, state.until + 0.001)
    if state.stage is Stage.STOPPING:
        ends = [seat.recover_until if seat.recovers else state.deadline for seat in state.seats.values()]
        starts = [seat.due for seat in state.seats.values() if seat.phase is Phase.VACANT]
        when = min(when, *(end for end in (*ends, *starts) if end is not None and end > now), math.inf)
    if rules.until_empty or state.stage is Stage.STARTING:
        when = min(when, now + 0.05)
    return max(when, now)


class _Turn(Stopping):
    """One step in the making: after the events, a ladder of questions, each of which may act."""

    def note_sleep(self) -> None:
        gap = self.now - self.state.last
        if self.state.last and gap > 3 * TICK_S:
            words = "it was stopped, or the machine is overloaded; no handler is late for that"
            self.say("warning", f"supervision slept {gap:.1f} s: {words}")

    def note_boots(self) -> None:
        for slot, seat in self.state.seats.items():
            sight = self.sights.get(slot, Sight())
            if seat.alive and not seat.booted and sight.booted:
                phase = Phase.RUNNING if seat.phase is Phase.STARTING else seat.phase
                self.change(slot, phase=phase, booted=True, boot_failures=0, baseline=sight.memory)
                self.state = replace(self.state, booted_once=True)
                # From here on, a death that nobody sees must not be explained by an older one.
                self.actions.append(Record(slot, Death(Cause.UNKNOWN), count=False))

    def limit_time(self) -> None:
        """Hung handlers end. Time that the master itself slept through does not count."""
        gap = self.now - self.state.last if self.state.last else 0.0
        passed = gap if gap <= 2 * TICK_S else 0.0
        for slot, seat in self.state.seats.items():
            sight = self.sights.get(slot)
            if sight is None or not (seat.alive or sight.holder) or seat.killed is not None:
                continue
            if seat.fenced:
                continue  # it cannot hurry while it is stopped
            if seat.frozen_at is not None:
                if self.now >= seat.frozen_at + FREEZE_S:
                    self.on_halt(slot)  # nobody has seen it stop: decide as if it had
                continue
            limit_s = self.rules.timeout_s if sight.limit_s is None else sight.limit_s
            if not limit_s or not sight.running or (seat.alive and not seat.booted):
                if seat.watched:
                    self.change(slot, watched=0, watched_s=0.0)
                continue
            if sight.place != seat.watched:
                seen_s = max(1e-6, min(self.now - sight.since, passed))
                self.change(slot, watched=sight.place, watched_s=seen_s, allowed_s=limit_s)
            else:
                self.change(slot, watched_s=seat.watched_s + passed, allowed_s=limit_s)
            seat = self.seat(slot)
            if seat.watched_s >= limit_s and not seat.alive and sight.holder:
                self.say("error", f"slot {slot}: entry {sight.entry} hangs in process {sight.holder}: killed")
                self.change(slot, watched=0, watched_s=0.0)
                self.actions.append(KillStranger(slot, sight.holder, sight.place))
            elif seat.watched_s >= limit_s:
                self.change(slot, frozen_at=self.now)
                self.actions.append(Freeze(slot))

    def mind_fence(self) -> None:
        """Stop user code while others may be given its entry; outside of it workers stand by themselves."""
        trusted = self.state.until > self.now
        for slot, seat in self.state.seats.items():
            if not seat.alive or seat.killed is not None or seat.frozen_at is not None:
                continue
            sight = self.sights.get(slot, Sight())
            if not seat.fenced and not trusted and sight.running and seat.booted:
                words = f"entry {sight.entry} is stopped: the instance lease cannot be trusted"
                self.say("warning", f"slot {slot}: {words}")
                self.change(slot, fenced=True)
                self.actions.append(Freeze(slot))
            elif trusted and sight.running and seat.booted and sight.place == sight.robbed:
                words = f"entry {sight.entry} was given to another instance meanwhile: killed, not charged"
                self.say("error", f"slot {slot}: {words}")
                self.change(slot, fenced=False, robbed=True, killed=Cause.SHUTDOWN)
                self.actions.append(Kill(slot, Cause.SHUTDOWN))
            elif seat.fenced and trusted:
                self.say("info", f"slot {slot}: goes on")
                self.change(slot, fenced=False)
                self.actions.append(Thaw(slot))

    def hand_over(self) -> None:
        """Wake those who were handed entries."""
        for slot, seat in self.state.seats.items():
            sight = self.sights.get(slot)
            if sight is None or not seat.alive or sight.handed <= seat.handed:
                continue
            self.change(slot, handed=sight.handed, wakes=seat.wakes + 1)
            self.actions.append(Wake(slot))

    def shrink(self) -> None:
        for slot, seat in self.state.seats.items():
            if slot < self.state.wanted:
                continue
            if seat.phase is Phase.RUNNING and not seat.retire:
                self.change(slot, phase=Phase.DRAINING, leave=Cause.CLEAN, retire=True)
                self.actions.append(Drain(slot))
            elif seat.phase is Phase.VACANT and not self.sights.get(slot, Sight()).held:
                self.change(slot, phase=Phase.CLOSED)

    def busy(self) -> bool:
        """Tell whether some wanted slot is on its way: then no other one may be taken out."""
        return any(
            seat.phase is not Phase.RUNNING
            for slot, seat in self.state.seats.items()
            if slot < self.state.wanted
        )

    def roll(self) -> None:
        """After a reload: replace one process after the other."""
        if not self.state.rolling or self.busy():
            return
        old = [slot for slot, seat in sorted(self.state.seats.items()) if not seat.fresh]
        if not old:
            self.state = replace(self.state, rolling=False)
            code = f": {self.rules.code}" if self.rules.code else ""
            self.say("info", f"reloaded: every slot runs the new code{code}")
            self.actions.append(Tell("ready"))
            return
        if self.seat(old[0]).phase is Phase.RUNNING:  # else: closed by TTOU and on its way already
            self.change(old[0], phase=Phase.DRAINING, leave=Cause.RELOAD)
            self.actions.append(Drain(old[0]))

    def recycle(self) -> None:
        """Replace a process that has done its share or grown too much; one at a time."""
        if self.state.rolling or self.busy():
            return
        for slot, seat in sorted(self.state.seats.items()):
            why = self.worn(seat, self.sights.get(slot, Sight()))
            if seat.phase is Phase.RUNNING and why:
                self.say("info", f"slot {slot}: recycled, {why}")
                self.change(slot, phase=Phase.DRAINING, leave=Cause.RECYCLE)
                self.actions.append(Drain(slot))
                return

    def worn(self, seat: Seat, sight: Sight) -> str:
        """Return why a process is to be replaced, empty when it is not."""
        done = sight.finished - seat.finished
        if seat.limit and done >= seat.limit:
            return f"{done} messages"
        if seat.growth and seat.baseline is not None and sight.memory is not None:
            grown = sight.memory - seat.baseline
            if grown > seat.growth:
                return f"grown by {grown >> 20} MiB"
        if seat.baseline is None and sight.memory is not None:
            self.change(seat.slot, baseline=sight.memory)
        return ""

    def fill(self) -> None:
        """Give every slot that should have a process one, unless a stranger still sits there."""
        for slot, seat in sorted(self.state.seats.items()):
            if seat.phase is not Phase.VACANT or seat.due > self.now:
                continue
            sight = self.sights.get(slot, Sight())
            if sight.holder is not None:
                if not seat.told_held:
                    words = f"process {sight.holder}, of a former master, still works in it: waiting"
                    self.say("warning", f"slot {slot}: {words}")
                    self.change(slot, told_held=True)
                continue
            retire = slot >= self.state.wanted
            jitter = 0.9 + 0.2 * self.draw()
            limit = max(1, round(self.rules.max_messages * jitter)) if self.rules.max_messages else 0
            growth = round(self.rules.max_growth * jitter)
            self.change(slot, phase=Phase.STARTING, retire=retire, leave=Cause.CLEAN)
            self.change(slot, finished=sight.finished, limit=limit, growth=growth, told_held=False, wakes=0)
            self.change(slot, handed=sight.handed, recovers=retire)
            self.actions.append(Fork(slot, retire, first=not self.state.booted_once))

    def end_when_empty(self) -> None:
        if not self.rules.until_empty or self.state.stage is not Stage.RUNNING:
            return
        empty = not self.busy() and self.is_settled()
        if self.rules.together:
            if empty != self.state.empty:
                self.state = replace(self.state, empty=empty)
                self.actions.append(Tell("empty", str(int(empty))))
        elif empty:
            self.say("info", "the stream is read and settled: ending")
            self.stop(OK, self.rules.drain_s)

    def is_settled(self) -> bool:
        wanted = [seat for slot, seat in self.state.seats.items() if slot < self.state.wanted]
        others = [seat for seat in self.state.seats.values() if seat.alive and seat not in wanted]
        sights = [(seat, self.sights.get(seat.slot, Sight())) for seat in wanted]
        return not others and all(sight.settled and sight.wakes >= seat.wakes for seat, sight in sights)

    def announce(self) -> None:
        seats = [seat for slot, seat in self.state.seats.items() if slot < self.state.wanted]
        running = sum(seat.phase is Phase.RUNNING for seat in seats)
        if self.state.stage is Stage.STARTING and running == len(seats):
            self.state = replace(self.state, stage=Stage.RUNNING)
            self.say("info", f"ready: {running} workers")
            self.actions.append(Tell("ready"))
            if self.state.reload_wanted:
                self.on_sighup()
        words = f"{running} of {len(seats)} workers run"
        if self.state.stage is Stage.STOPPING:
            words = f"stopping, {sum(seat.alive for seat in self.state.seats.values())} workers left"
        elif self.state.until <= self.now:
            words += ", the instance lease is waited for"
        elif self.state.rolling:
            words += f", {sum(not seat.fresh for seat in seats)} still with the old code"
        if words != self.state.status:
            self.state = replace(self.state, status=words)
            self.actions.append(Tell("status", words))
