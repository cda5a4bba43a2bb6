"""What the root does, as a function of what it sees. Pure; the other half is `root`.

A root has a master for each pool in its charge, and is to them what a service manager would be:

    ABSENT --start--> PREPARING --all is well--> PREPARED --go--> STARTING --every slot booted--> RUNNING
       ^                  |                         |                |                              |
       +------------------+-------------------------+----died-------+------------------------------+--> ENDED

Nothing is read before every pool is prepared for the first time: until then one that is wrong ends all, with
its exit code. So does one that gives up before all have run once. From then on pools stand alone.
"""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..ipc.exitcodes import EXITED, NEVER_BOOTED, OK, describe
from . import link
from .backoff import pause_s
from .rootstates import (
    ALIVE,
    LISTENING,
    Action,
    Charge,
    End,
    Event,
    Gone,
    Kill,
    Leave,
    Phase,
    Prepared,
    Send,
    Sight,
    Start,
    State,
)
from .states import Reexec, Refused, ReopenLogs, Say, Signalled, Stage, Tell, Tried, Try

TICK_S = 1.0
QUICK_S = 0.05  # while something is waited for
STEADY_S = 10.0  # a master that ran this long begins with a clean record
RELOAD_S = 300.0  # after that nobody waits for the end of a pool's reload
DEATHS = 3  # in a row before a pool has ever run: it never will


def begin(names: Iterable[str], found: Mapping[str, Phase] | None = None) -> State:
    """Return the first state of a root.

    Arguments:
        names: of all pools that the settings ask for.
        found: phases of the masters that this very process, before it re-executed itself, has started; None
            when this is no reload.
    """
    wanted = dict.fromkeys(names, Charge())
    if found is None:
        return State(wanted)
    old = {name: Charge(phase, dismissed=name not in wanted, outdated=True) for name, phase in found.items()}
    return State({**wanted, **old}, Stage.RUNNING, announced=False)


def step(
    state: State, events: Sequence[Event], sights: Mapping[str, Sight], now: float
) -> tuple[State, list[Action]]:
    """Return the next state and what to do.

    Arguments:
        state: from the step before, or `begin`.
        events: what happened since, in order.
        sights: of every pool whose segment can be read.
        now: monotonic seconds.
    """
    turn = _Turn(state, sights, now)
    for event in events:
        turn.take(event)
    turn.note_starts()
    turn.dismiss()
    turn.reload()
    turn.mind_hung()
    if turn.state.stage is Stage.STOPPING:
        turn.leave()
    else:
        turn.fill()
        turn.go()
        turn.end_when_empty()
        turn.end_when_all_have()
    turn.announce()
    return turn.state, turn.actions


def next_deadline(state: State, now: float, *, until_empty: bool) -> float:
    """Return when the next step is due even if nothing happens."""
    due = min((c.due for c in state.charges.values() if c.phase is Phase.ABSENT), default=math.inf)
    busy = any(c.phase is Phase.STARTING or c.reloads is not None for c in state.charges.values())
    quick = until_empty or busy or state.trial
    return max(now, min(due, now + (QUICK_S if quick else TICK_S)))


@dataclass(slots=True)
class _Turn:
    """One step in the making."""

    state: State
    sights: Mapping[str, Sight]
    now: float
    actions: list[Action] = field(default_factory=list)

    def sight(self, name: str) -> Sight:
        return self.sights.get(name, Sight())

    def change(self, name: str, **values: object) -> None:
        charges = dict(self.state.charges)
        charges[name] = replace(charges[name], **values)  # type: ignore[arg-type]
        self.state = replace(self.state, charges=charges)

    def say(self, level: str, words: str) -> None:
        self.actions.append(Say(level, words))

    def alive(self, *phases: Phase) -> list[str]:
        return [name for name, charge in self.state.charges.items() if charge.phase in (phases or ALIVE)]

    # What happened

    def take(self, event: Event) -> None:
        match event:
            case Signalled(name):
                getattr(self, f"on_{name.lower()}", lambda: None)()
            case Prepared(name):
                if self.state.charges[name].phase is Phase.PREPARING:
                    self.change(name, phase=Phase.PREPARED)
            case Gone(name, detail):
                self.on_gone(name, detail)
            case Tried(words):
                self.on_tried(words)
            case Refused(words):
                self.on_refused(words)

    def on_sigterm(self) -> None:
        if self.state.stage is Stage.STOPPING:
            self.tell_all(link.PRESS)
        else:
            self.say("info", "stopping all pools")
            self.stop(OK)

    on_sigint = on_sigterm

    def on_sigquit(self) -> None:
        self.stop(OK, link.QUIT)

    def on_sighup(self) -> None:
        if self.state.stage is Stage.STOPPING:
            self.say("warning", "a reload was asked for while pools stop: ignored")
        elif self.state.stage is Stage.STARTING:
            self.say("info", "a reload was asked for while pools start: it follows when all run")
            self.state = replace(self.state, reload_wanted=True)
        else:
            more = "asked for again: trying the newest" if self.state.trial else "trying the new"
            self.say("info", f"reloading: {more} settings in a fresh interpreter")
            self.state = replace(self.state, trial=True, reload_wanted=False)
            self.actions += [Tell("reloading"), Try()]

    def on_tried(self, words: str) -> None:
        if Try() in self.actions:
            return  # asked for again in this very step: the newest trial decides
        self.state = replace(self.state, trial=False)
        if self.state.stage is Stage.STOPPING:
            return
        if words:
            self.on_refused(words)
        else:
            self.actions.append(Reexec())

    def on_refused(self, words: str) -> None:
        self.say("error", f"reload refused, the old settings and the old code go on: {words}")
        self.actions.append(Tell("ready"))

    def on_sigttin(self) -> None:
        self.tell_all(link.MORE)

    def on_sigttou(self) -> None:
        self.tell_all(link.FEWER)

    def on_sigusr1(self) -> None:
        self.actions.append(ReopenLogs())
        self.tell_all(link.LOGS)

    def on_gone(self, name: str, detail: int) -> None:
        charge = self.state.charges[name]
        steady = charge.phase is Phase.RUNNING and self.now - charge.since >= STEADY_S
        fruitless = 1 if steady else charge.fruitless + 1
        stage, good = self.state.stage, [EXITED + OK]
        if stage is Stage.STOPPING and charge.phase not in LISTENING:
            good.append(signal.SIGTERM)  # ours: it did not yet handle it
        failed = detail not in good
        if charge.dismissed or stage is Stage.STOPPING or not failed:
            self.change(name, phase=Phase.ENDED, reloads=None, fruitless=0)
            if failed:
                self.say("error", f"pool {name}: its master died: {describe(detail)}")
            if failed and stage is Stage.STOPPING and self.state.code == OK:
                self.state = replace(self.state, code=detail - EXITED if detail > EXITED else NEVER_BOOTED)
            return
        pause = pause_s(fruitless)
        self.change(name, phase=Phase.ABSENT, due=self.now + pause, fruitless=fruitless, reloads=None)
        if stage is Stage.STARTING and detail > EXITED:
            # What is wrong it has said itself, in one line.
            if charge.phase in LISTENING:
                self.say("error", f"pool {name}: it never ran: ending all, with its exit code")
            self.stop(detail - EXITED)
        elif stage is Stage.STARTING and fruitless >= DEATHS:
            self.say("error", f"pool {name}: its master died {fruitless} times before it ran: giving up")
            self.stop(NEVER_BOOTED)
        else:
            words = f"its master died: {describe(detail)}; a new one starts in {pause:.1f} s"
            self.say("error", f"pool {name}: {words}")

    # What follows

    def tell_all(self, word: bytes) -> None:
        self.actions += [Send(name, word) for name in self.alive(*LISTENING)]

    def stop(self, code: int, word: bytes = link.DRAIN) -> None:
        if self.state.stage is not Stage.STOPPING:
            self.state = replace(self.state, stage=Stage.STOPPING, code=code)
            self.actions.append(Tell("stopping"))
        self.tell_all(word)
        self.actions += [End(name) for name in self.alive(Phase.PREPARING, Phase.PREPARED)]
        for name in self.alive(Phase.ABSENT):
            self.change(name, phase=Phase.ENDED)

    def note_starts(self) -> None:
        for name in self.alive(Phase.STARTING):
            if self.sight(name).ready:
                self.change(name, phase=Phase.RUNNING)

    def dismiss(self) -> None:
        """Let pools go that the settings have no more."""
        for name, charge in self.state.charges.items():
            if charge.dismissed and charge.outdated and charge.phase in ALIVE:
                self.say("info", f"pool {name}: the settings have it no more: it ends")
                self.change(name, outdated=False)
                listens = charge.phase in LISTENING
                self.actions.append(Send(name, link.DRAIN) if listens else End(name))
            elif charge.dismissed and charge.phase not in ALIVE:
                charges = {key: value for key, value in self.state.charges.items() if key != name}
                self.state = replace(self.state, charges=charges)

    def reload(self) -> None:
        """Order reloads of pools that run old code, and see them end."""
        for name in self.alive(Phase.RUNNING):
            charge, sight = self.state.charges[name], self.sight(name)
            if self.state.stage is Stage.STOPPING or charge.dismissed:
                self.change(name, reloads=None)
            elif charge.outdated and not sight.reloading:
                self.change(name, outdated=False, reloads=sight.reloads, reload_until=self.now + RELOAD_S)
                self.actions.append(Send(name, link.RELOAD))
            elif charge.reloads is not None and (
                (sight.reloads != charge.reloads and sight.ready and not sight.reloading)
                or self.now >= charge.reload_until
            ):
                self.change(name, reloads=None)

    def mind_hung(self) -> None:
        for name in self.alive(Phase.RUNNING):
            if self.sight(name).hung:
                self.say("error", f"pool {name}: its master hangs: killed; its workers finish what they run")
                self.actions.append(Kill(name))

    def fill(self) -> None:
        for name in self.alive(Phase.ABSENT):
            charge = self.state.charges[name]
            if charge.due <= self.now and not charge.dismissed:
                self.change(name, phase=Phase.PREPARING, since=self.now, outdated=False)
                self.actions.append(Start(name))

    def go(self) -> None:
        """Let prepared masters begin: the first time only all together."""
        ready = self.alive(Phase.PREPARED)
        if self.state.stage is Stage.STARTING and self.alive(Phase.ABSENT, Phase.PREPARING):
            return
        for name in ready:
            self.change(name, phase=Phase.STARTING)
            self.actions.append(Send(name, link.GO))

    def end_when_empty(self) -> None:
        """Stop when every pool is empty at one time.

        That is so if all were empty, if then each slot's next read found nothing once more, and if nothing
        was finished in between: nobody ran who could have pushed something new.
        """
        seen = {name: self.sight(name).empty for name in self.alive(*ALIVE, Phase.ABSENT)}
        found = {name: empty for name, empty in seen.items() if empty is not None}
        if not found or len(found) < len(seen) or self.state.stage is not Stage.RUNNING:
            self.state = replace(self.state, empty=None)
        elif self.state.empty is None or not _same(self.state.empty, found):
            self.state = replace(self.state, empty=found)
        elif all(
            now_ >= before + 2  # the first of them may have been sent before
            for name, (_, reads) in found.items()
            for now_, before in zip(reads, self.state.empty[name][1], strict=True)
        ):
            self.say("info", "every stream is read and settled: ending")
            self.stop(OK)

    def end_when_all_have(self) -> None:
        if not self.alive() and not self.alive(Phase.ABSENT):
            self.say("info", "every pool has ended")
            self.stop(OK)
            self.leave()

    def leave(self) -> None:
        if not self.alive():
            self.actions.append(Leave(self.state.code))

    def announce(self) -> None:
        running, number = len(self.alive(Phase.RUNNING)), len(self.state.charges)
        if self.state.stage is Stage.STARTING and running + len(self.alive(Phase.ENDED)) == number:
            self.state = replace(self.state, stage=Stage.RUNNING)
            self.say("info", f"ready: {running} pools")
            self.actions.append(Tell("ready"))
            if self.state.reload_wanted:
                self.on_sighup()
        waits = [name for name, charge in self.state.charges.items() if _is_waited_for(charge)]
        if self.state.stage is Stage.RUNNING and not self.state.announced and not waits:
            self.state = replace(self.state, announced=True)
            self.say(
                "info" if running == number else "warning", f"reload done: {running} of {number} pools run"
            )
            self.actions.append(Tell("ready"))
        words = f"{running} of {number} pools run"
        if self.state.stage is Stage.STOPPING:
            words = f"stopping, {len(self.alive())} pools left"
        if words != self.state.status:
            self.state = replace(self.state, status=words)
            self.actions.append(Tell("status", words))


def _is_waited_for(charge: Charge) -> bool:
    """Tell whether the end of a reload is to wait for a pool: not for one that has failed already."""
    if charge.phase is Phase.RUNNING:
        return charge.outdated or charge.reloads is not None
    return charge.phase is not Phase.ENDED and charge.fruitless == 0


def _same(
    before: Mapping[str, tuple[int, tuple[int, ...]]], after: Mapping[str, tuple[int, tuple[int, ...]]]
) -> bool:
    """Tell whether nothing was finished in between, by the same slots of the same pools."""
    return {n: (done, len(reads)) for n, (done, reads) in before.items()} == {
        n: (done, len(reads)) for n, (done, reads) in after.items()
    }
