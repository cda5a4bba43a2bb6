"""Breakers: the circuit breakers of a group, as one keeper or one operator shares them with the fleet."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ..streams import breaker as shared
from ..worker.breaker import Breaker, Event, Limits, decode, step

_TRIES = 100


class Contended(Exception):
    """Others change the breaker all the time."""


class Breakers:
    """Reads, steps and writes back; begins again when somebody was faster."""

    def __init__(self, stream: str, group: str, call: Callable[..., list[Any]]) -> None:
        """Ask nothing yet.

        Arguments:
            stream, group: names.
            call: sends packed commands and returns their replies, errors as values.
        """
        self._stream, self._group, self._call = stream, group, call
        self._known: dict[str, bytes | None] = {}
        self._ahead_ms = 0.0  # the server's clock less ours

    @property
    def now_ms(self) -> int:
        """Return the server's clock, as far as it is known."""
        return int(time.monotonic() * 1000 + self._ahead_ms)

    def look(self, event: str) -> Breaker:
        """Return an event's breaker as it stands in Redis.

        Raises:
            RuntimeError: the server refuses.
        """
        self._ask(event, None)
        return decode(self._known.get(event))

    def apply(self, event: str, limits: Limits, happening: Event) -> Breaker:
        """Let something happen to an event's breaker, for all of the fleet; return what it is then.

        Arguments:
            event: whose breaker.
            limits: when it opens and closes.
            happening: see `worker.breaker`.

        Raises:
            RuntimeError: the server refuses.
            Contended: see there.
        """
        self._ask(event, None)  # the clock that is known may be of hours ago
        for _ in range(_TRIES):
            old = decode(self._known[event])
            new = step(old, limits, happening, self.now_ms)
            if self._ask(event, None if new == old else new.encode()):
                return new
        raise Contended(f"breaker of {event}: changed by others {_TRIES} times in a row")

    def _ask(self, event: str, new: bytes | None) -> bool:
        """Write a value, or look; False when it was another one than known: now it is known."""
        known = self._known.get(event)
        (reply,) = self._call(shared.change(self._stream, self._group, event, known, new))
        if isinstance(reply, Exception):
            raise RuntimeError(f"breaker of {event}: {reply}") from reply  # noqa: TRY004 - no type, an answer
        said = shared.seen(reply)
        self._ahead_ms = said.now_ms - time.monotonic() * 1000
        if said.done:
            self._known[event] = new if new is not None else known
        else:
            self._known[event] = said.value
        return said.done
