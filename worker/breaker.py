"""The circuit breaker of one event: when not to call a handler whose dependency is down. Pure.

    CLOSED ---failures within window---> OPEN ---reset is over, somebody asks---> HALF_OPEN
       ^                                   ^                                          |
       |                                   +-------------a probe fails----------------+
       +------------------successes probes in a row went well------------------------+

    step(breaker, limits, event, now_ms) -> breaker

A breaker is a value that a whole fleet shares: it is read, stepped and written back only if nobody has
changed it meanwhile (`streams.breaker`), so what holds here holds everywhere: while it is half open one
probe runs at a time. Times are milliseconds of one clock, the server's.

What an entry does that was started before the breaker opened says nothing about it any more: only a probe's
end counts then, and only if it is the probe that runs now.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

FAILURES_MAX = 1000  # their times are kept, all of them


class Phase(StrEnum):
    """What a breaker does with entries of its event."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Limits:
    """When a breaker opens and closes.

    Arguments:
        failures: so many open it,
        window_ms: within so long.
        reset_ms: how long it stays open before a probe.
        successes: so many probes in a row close it.
    """

    failures: int = 5
    window_ms: int = 60_000
    reset_ms: int = 30_000
    successes: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.failures <= FAILURES_MAX:
            raise ValueError(f"a breaker opens after 1 to {FAILURES_MAX} failures, not {self.failures}")
        if min(self.window_ms, self.reset_ms, self.successes) < 1:
            raise ValueError("a breaker's window, reset and successes must be more than nothing")


@dataclass(frozen=True, slots=True)
class Probe:
    """An entry that is run to see whether the dependency is back.

    Arguments:
        who: runs it; a name that no other probe ever has.
        until_ms: when its end is not waited for any longer; it may be put off.
    """

    who: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class Breaker:
    """A breaker at one moment.

    Arguments:
        phase: see above.
        failed_ms: CLOSED: when it failed lately, oldest first, fewer than would open it.
        until_ms: OPEN: when the first probe may run; None: not before somebody closes it by hand.
        good: HALF_OPEN: how many probes in a row went well.
        probe: HALF_OPEN: the one that runs.
        opened: how often it has opened, ever.
    """

    phase: Phase = Phase.CLOSED
    failed_ms: tuple[int, ...] = ()
    until_ms: int | None = None
    good: int = 0
    probe: Probe | None = None
    opened: int = 0

    def encode(self) -> bytes:
        """Return it as JSON, for `decode`."""
        probe = None if self.probe is None else [self.probe.who, self.probe.until_ms]
        values = {"phase": self.phase, "failed": self.failed_ms, "until": self.until_ms, "good": self.good}
        return json.dumps(values | {"probe": probe, "opened": self.opened}, separators=(",", ":")).encode()


def decode(raw: bytes | None) -> Breaker:
    """Return what `Breaker.encode` made; a new breaker for nothing and for what cannot be read."""
    try:
        values: dict[str, Any] = json.loads(raw or b"{}")
        phase = Phase(values.get("phase", Phase.CLOSED))
        opened = max(0, int(values.get("opened", 0)))
        if phase is Phase.CLOSED:
            return Breaker(
                failed_ms=tuple(sorted(map(int, values.get("failed", ())[:FAILURES_MAX]))), opened=opened
            )
        if phase is Phase.OPEN:
            until = values.get("until")
            return Breaker(phase, until_ms=None if until is None else int(until), opened=opened)
        probe = values.get("probe")
        running = None if probe is None else Probe(str(probe[0]), int(probe[1]))
        return Breaker(phase, good=max(0, int(values.get("good", 0))), probe=running, opened=opened)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError):
        return Breaker()


@dataclass(frozen=True, slots=True)
class Failed:
    """Handlers have failed, so many of them."""

    count: int = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody wants to run a probe, and will say within `patience_ms` how it ended, or ask for more time."""

    who: str
    patience_ms: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A probe has ended. `well`: None when its handler was not called, or was cut off for our own reasons."""

    who: str
    well: bool | None


@dataclass(frozen=True, slots=True)
class Forced:
    """An operator has opened it, to stay so, or closed it."""

    phase: Phase


Event = Failed | Asked | Ended | Forced


def step(breaker: Breaker, limits: Limits, event: Event, now_ms: int) -> Breaker:
    """Return the breaker after an event; the same value if that changes nothing.

    Raises:
        ValueError: an operator wants it half open.
    """
    match event:
        case Failed(count):
            return _fail(breaker, limits, count, now_ms)
        case Asked(who, patience_ms):
            return _ask(breaker, who, patience_ms, now_ms)
        case Ended(who, well):
            return _end(breaker, limits, who, well, now_ms)
        case Forced(Phase.OPEN):
            return Breaker(Phase.OPEN, opened=breaker.opened + (breaker.phase is not Phase.OPEN))
        case Forced(Phase.CLOSED):
            return Breaker(opened=breaker.opened)
        case _:
            raise ValueError("a breaker is opened or closed by hand; half open it becomes by itself")


def runs(breaker: Breaker, who: str, now_ms: int) -> bool:
    """Tell whether this probe is the one that may run now."""
    return breaker.probe is not None and breaker.probe.who == who and now_ms < breaker.probe.until_ms


def due_ms(breaker: Breaker) -> int | None:
    """Return from when on a probe may be asked for; None: not needed, or not before it is closed by hand."""
    if breaker.phase is Phase.CLOSED:
        return None
    if breaker.phase is Phase.OPEN:
        return breaker.until_ms
    return 0 if breaker.probe is None else breaker.probe.until_ms


def _fail(breaker: Breaker, limits: Limits, count: int, now_ms: int) -> Breaker:
    if breaker.phase is not Phase.CLOSED or count < 1:
        return breaker
    recent = [at for at in breaker.failed_ms if now_ms - at < limits.window_ms]
    recent += [now_ms] * min(count, limits.failures)
    if len(recent) >= limits.failures:
        return _opened(breaker, limits, now_ms)
    return replace(breaker, failed_ms=tuple(recent))


def _ask(breaker: Breaker, who: str, patience_ms: int, now_ms: int) -> Breaker:
    due = due_ms(breaker)
    mine = breaker.probe is not None and breaker.probe.who == who
    if not mine and (due is None or now_ms < due):
        return breaker
    probe = Probe(who, now_ms + patience_ms)
    return replace(breaker, phase=Phase.HALF_OPEN, until_ms=None, probe=probe)


def _end(breaker: Breaker, limits: Limits, who: str, well: bool | None, now_ms: int) -> Breaker:
    if breaker.probe is None or breaker.probe.who != who:
        return breaker  # it took too long, and another runs, or an operator has decided
    if well is None:
        return replace(breaker, probe=None)
    if not well:
        return _opened(breaker, limits, now_ms)
    if breaker.good + 1 >= limits.successes:
        return Breaker(opened=breaker.opened)
    return replace(breaker, good=breaker.good + 1, probe=None)


def _opened(breaker: Breaker, limits: Limits, now_ms: int) -> Breaker:
    return Breaker(Phase.OPEN, until_ms=now_ms + limits.reset_ms, opened=breaker.opened + 1)
