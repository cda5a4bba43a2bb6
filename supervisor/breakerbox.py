"""The breaker box: the circuit breakers of a group, looked at and turned by hand; see `Fleet.breakers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..streams.connection import RedisError
from ..worker.breaker import Forced, Limits, Phase
from .breakers import Breakers, Contended, Shown, shown
from .fleeterrors import FleetError, NoBreaker, NotInTime

T = TypeVar("T")


class BreakerBox:
    """All circuit breakers of one group."""

    def __init__(self, stream: str, group: str, call: Callable[..., list[Any]]) -> None:
        """Ask nothing yet.

        Arguments:
            stream, group: names.
            call: sends commands, as words, and returns their replies, errors as values.
        """
        self._title, self._breakers = f"{stream} / {group}", Breakers(stream, group, call)

    def all(self) -> list[Shown]:
        """Return them by the names of their events: of all pools that ever ran in this group."""
        found = _asked(self._breakers.everything)
        return [shown(event, found[event], self._breakers.now_ms) for event in sorted(found)]

    def open(self, event: str) -> bool:
        """Let no handler of an event be called any more, until it is closed; return whether it was not so.

        Raises:
            NoBreaker: no pool has ever had one for it.
            NotInTime: somebody else, or a failover, has undone it.
        """
        before = self._turn(event, Phase.OPEN)
        return before.state != Phase.OPEN or before.due_s is not None

    def close(self, event: str) -> bool:
        """Let the handlers of an event be called again; return whether they were not.

        Raises:
            NoBreaker: no pool has ever had one for it.
        """
        return self._turn(event, Phase.CLOSED).state != Phase.CLOSED

    def _turn(self, event: str, phase: Phase) -> Shown:
        """Open or close one; return what it was before."""
        found = {one.event: one for one in self.all()}
        if event not in found:
            known = ", ".join(found) or "none"
            raise NoBreaker(f"{self._title}: no circuit breaker for event {event}; there are: {known}")
        made = _asked(lambda: self._breakers.apply(event, Limits(), Forced(phase)))
        stands = _asked(lambda: self._breakers.look(event))
        if stands.phase is not phase and stands.opened <= made.opened:  # else it has opened again since
            raise NotInTime(
                f"{self._title}: the breaker of {event} was turned and is {stands.phase}: the server was"
                " replaced just now, or somebody else turned it; look, and turn it again"
            )
        return found[event]


def _asked(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except Contended as error:
        raise FleetError(str(error)) from error
    except RuntimeError as error:
        if isinstance(error.__cause__, RedisError):
            raise error.__cause__ from None
        raise
