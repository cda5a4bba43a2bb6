"""The size of the pool: how many slots are wanted, by hand or by what waits. Pure.

An operator's number holds until the operator says `auto`; with `--workers MIN-MAX` and without one, `scaling`
decides.
"""

from __future__ import annotations

from dataclasses import replace

from ..ipc.cells import Why
from .happenings import Happenings
from .scaling import Past, decide
from .states import Event, Ordered, Phase, Resized, Seat, Sight, Stage

_LOOK_S = 0.001  # as soon as can be, but not now


class Sizing(Happenings):
    """What happens to the number of wanted slots."""

    def take(self, event: Event) -> None:
        if isinstance(event, Ordered):
            self.on_ordered(event.workers)
        else:
            super().take(event)

    def on_sigttin(self) -> None:
        if self.state.wanted >= self.rules.capacity:
            self.say("warning", f"no room for more than {self.rules.capacity} workers")
            return
        self.by_hand()
        self.resize(self.state.wanted + 1, Why.HAND)
        self.say("info", f"one worker more: {self.state.wanted}")

    def on_sigttou(self) -> None:
        if self.state.wanted <= 1:
            self.say("warning", "the last worker stays")
            return
        self.by_hand()
        self.resize(self.state.wanted - 1, Why.HAND)
        self.say("info", f"one worker fewer: {self.state.wanted}")

    def on_ordered(self, workers: int) -> None:
        """Have as many workers as an operator wants; with 0, as many as the configuration does."""
        scale, before = self.rules.scale, self.state.wanted
        if workers > self.rules.capacity:
            words = f"no room for more than {self.rules.capacity} workers: {workers} were ordered"
            self.say("warning", words)
        if workers:
            self.by_hand()
            self.resize(min(workers, self.rules.capacity), Why.HAND)
        else:
            self.state = replace(self.state, by_hand=False, past=Past())
            self.resize(self.rules.workers if scale is None else scale.clamp(before), Why.HAND)
        if self.state.wanted != before:
            self.say("info", f"workers: {before} to {self.state.wanted}, by order")

    def by_hand(self) -> None:
        if not self.state.by_hand and self.rules.scale is not None:
            self.say("info", "the pool does not scale itself any more, until `rsq scale auto`")
        self.state = replace(self.state, by_hand=True, past=Past())

    def resize(self, wanted: int, why: Why) -> None:
        before = self.state.wanted
        if wanted == before:
            return
        seats = dict(self.state.seats)
        for slot in range(before, wanted):
            seat = seats.get(slot)
            if seat is None or seat.phase is Phase.CLOSED:
                # Not before the next pass: nobody has looked yet whether a stranger sits there.
                seats[slot] = Seat(slot, due=self.now + _LOOK_S)
            else:
                seats[slot] = replace(seat, retire=False)
        self.state = replace(self.state, seats=seats, wanted=wanted)
        self.actions.append(Resized(wanted, why))

    def watch_load(self) -> None:
        """See how much the workers do; have more or fewer of them if what waits asks for it."""
        scale, state = self.rules.scale, self.state
        look_s = 1.0 if scale is None else scale.look_s
        if self.now < state.meter.at + look_s:
            return
        smooth_s = 5.0 if scale is None else min(5.0, scale.target_s / 2)
        done = {slot: sight.finished for slot, sight in self.sights.items()}
        busy = sum(self.sights.get(slot, Sight()).busy for slot, seat in state.seats.items() if seat.booted)
        running = [
            (self.now - sight.since, sight.together)
            for slot, sight in self.sights.items()
            if sight.running and slot in state.seats and state.seats[slot].booted
        ]
        meter = state.meter.look(self.now, done, busy, smooth_s, running)
        self.state = replace(state, meter=meter)
        if scale is None or state.by_hand or state.stage is not Stage.RUNNING:
            return
        outlook = self.outlook if state.until > self.now else None
        past, wish = decide(scale, state.past, outlook, meter.busy, meter.rate, state.wanted, self.now)
        self.state = replace(self.state, past=past)
        if past.held and not state.past.held:
            self.say("warning", f"no more workers than {state.wanted}: {past.held}")
        if wish is not None:
            self.say("info", f"workers: {state.wanted} to {wish.workers}, {wish.words}")
            self.resize(wish.workers, wish.why)
