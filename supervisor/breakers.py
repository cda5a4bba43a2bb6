"""Breakers: the circuit breakers of a group, as one keeper or one operator shares them with the fleet."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ..streams import breaker as shared
from ..worker.breaker import Breaker, Event, Limits, Phase, decode, step
from .figures import span
from .printable import printable

_TRIES, _POLITE, _PAUSE_S = 100, 3, 0.005


class Contended(Exception):
    """Others change the breaker all the time."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A circuit breaker of a fleet, for people and programs.

    Arguments:
        event: whose.
        state: `closed`, `open` or `half-open`.
        opened: how often it has opened, ever.
        due_s: OPEN: seconds until an entry is tried; None when that is not before it is closed by hand.
        probing: HALF_OPEN: an entry is being tried just now.
    """

    event: str
    state: str
    opened: int
    due_s: float | None = None
    probing: bool = False

    @property
    def prospect(self) -> str:
        """Return what comes next, in words."""
        if self.state == Phase.CLOSED:
            return ""
        if self.state == Phase.HALF_OPEN:
            return "an entry is being tried" if self.probing else "the next entry is tried"
        if self.due_s is None:
            return "stays open until it is closed by hand"
        return f"an entry is tried in {span(self.due_s)}" if self.due_s else "the next entry is tried"

    def as_json(self) -> dict[str, object]:
        """Return it as a value for JSON."""
        return {
            "event": printable(self.event),
            "state": str(self.state),
            "opened": self.opened,
            "probe_in_s": self.due_s,
            "probing": self.probing,
        }


def shown(event: str, breaker: Breaker, now_ms: int) -> Shown:
    """Return a breaker as it is shown, at a time of the server's clock."""
    due = breaker.until_ms
    due_s = None if due is None else max(0.0, (due - now_ms) / 1000)
    return Shown(event, breaker.phase, breaker.opened, due_s, breaker.probe is not None)


class Breakers:
    """Reads, steps and writes back; begins again when somebody was faster."""

    def __init__(self, stream: str, group: str, call: Callable[..., list[Any]]) -> None:
        """Ask nothing yet.

        Arguments:
            stream, group: names.
            call: sends commands, as words, and returns their replies, errors as values.
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

    def everything(self, events: Collection[str] = ()) -> dict[str, Breaker]:
        """Return all breakers of the group as they stand in Redis, and learn the server's clock.

        Arguments:
            events: that have a breaker; they get a closed one if there is none yet, for all to see.

        Raises:
            RuntimeError: the server refuses.
        """
        clock, all_of_them = self._call(("TIME",), shared.everything(self._stream, self._group))
        for reply in (clock, all_of_them):
            if isinstance(reply, Exception):
                raise RuntimeError(f"circuit breakers: {reply}") from reply  # noqa: TRY004 - an answer
        self._ahead_ms = shared.milliseconds(clock) - time.monotonic() * 1000
        found = shared.values(all_of_them)
        self._known = {**dict.fromkeys(events), **found}
        for event in sorted(set(events) - found.keys()):
            self._ask(event, Breaker().encode())
        return {event: decode(value) for event, value in self._known.items()}

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
        for tries in range(_TRIES):
            if tries > _POLITE:  # others are at it too
                time.sleep(random.random() * _PAUSE_S)  # noqa: S311 - no secret
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
