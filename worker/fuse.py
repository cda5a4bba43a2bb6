"""The fuse: the circuit breaker that somebody wants for an event, as it is written in a router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from ..ipc.breakers import NAME_MAX, ROWS, Row
from ..streams.bounds import COUNT_MAX, SECONDS_MAX, shown
from ..streams.durations import Duration, seconds
from . import breaker

if TYPE_CHECKING:
    from .router import Route

WhileOpen = Literal["defer", "pause", "dead-letter"]
_LIMIT_LEAST_S = 60.0
# Between the end of a handler's time and what its process's successor has to say about it.
_MARGIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """A circuit breaker: a handler whose calls fail one after the other is not called for a while.

    Arguments:
        failures: so many open it,
        window: within so long; as `30s`, `5m` or in seconds.
        reset: how long it stays open before one entry is tried, likewise.
        successes: so many of these in a row close it.
        while_open: what becomes of the event's entries: `defer` keeps them until it closes, no attempt is
            charged; `pause` does, and the pool reads nothing new; `dead-letter` gives them up at once.
    """

    failures: int = 5
    window: Duration = 60.0
    reset: Duration = 30.0
    successes: int = 1
    while_open: WhileOpen = "defer"

    def limits(self) -> breaker.Limits:
        """Return the numbers in milliseconds.

        Raises:
            ValueError: they make no sense; one line.
        """
        for what, count in (("failures", self.failures), ("successes", self.successes)):
            if type(count) is not int or count > COUNT_MAX:
                raise ValueError(f"{what} is a number, not {shown(count)}")
        try:
            window_s, reset_s = seconds(self.window), seconds(self.reset)
        except ValueError as error:
            raise ValueError(f"window and reset are durations: {error}") from error
        if max(window_s, reset_s) > SECONDS_MAX:
            raise ValueError(f"window and reset are at most {SECONDS_MAX:.0f} s")
        if self.while_open not in (words := get_args(WhileOpen)):
            raise ValueError(f"while_open is one of {', '.join(words)}, not {self.while_open!r}")
        window_ms, reset_ms = max(1, round(1000 * window_s)), max(1, round(1000 * reset_s))
        return breaker.Limits(self.failures, window_ms, reset_ms, self.successes)


@dataclass(frozen=True, slots=True)
class Fuse:
    """The breaker of one event.

    Arguments:
        event: its name.
        limits: when it opens and closes.
        while_open: see `Breaker`.
        limit_ms: how long the end of a probe is waited for at most.
    """

    event: bytes
    limits: breaker.Limits
    while_open: WhileOpen
    limit_ms: int

    @property
    def row(self) -> Row:
        """Return what the segment holds of it."""
        own = self.limits
        return Row(self.event, own.failures, own.window_ms, own.reset_ms, own.successes, self.limit_ms)


def fuses(routes: Sequence[Route], timeout_s: float) -> list[Fuse]:
    """Return the breakers of a router's events.

    Arguments:
        routes: that were checked.
        timeout_s: hard limit of the pool's handlers; 0 for none.
    """
    found: list[Fuse] = []
    for route in routes:
        if (wanted := route.limits.breaker) is None:
            continue
        limits = wanted.limits()
        hard_s = timeout_s if route.limits.timeout is None else route.limits.timeout
        limit_s = hard_s + _MARGIN_S if hard_s else max(_LIMIT_LEAST_S, limits.reset_ms / 1000)
        made = (
            Fuse(event.encode(), limits, wanted.while_open, round(1000 * limit_s)) for event in route.events
        )
        found += made
    return found


def check_breakers(routes: Sequence[Route]) -> None:
    """Make sure that the events with a breaker have room in the segment.

    Raises:
        ValueError: they have not; one line.
    """
    events = [event.encode() for route in routes if route.limits.breaker for event in route.events]
    if len(events) > ROWS:
        raise ValueError(f"{len(events)} events have a breaker, at most {ROWS} can")
    for event in events:
        if len(event) > NAME_MAX:
            raise ValueError(
                f"an event with a breaker has a name of at most {NAME_MAX} bytes: {event.decode()!r}"
            )
