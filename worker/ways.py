"""The ways of a stream's entries: what is called for each event, and by which limits.

The router's word goes before the pool's. A plain handler is the one way of all entries.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..ipc.cells import D
from ..ipc.limit import pack
from ..streams.entry import Message, Raw, text
from ..streams.envelope import ENVELOPES
from ..streams.once import lasting_s
from .guard import Guard
from .handler import Handler
from .quota import Quota
from .router import Gather, Route
from .signature import HandlerError
from .spec import Retries, Source, Spec
from .verdict import Ignored, UnknownEvent

log = logging.getLogger(__name__)
_TOLD_MAX = 10  # events that are ignored and told of, in each worker
UNKNOWN = ("ignore", "dead-letter", "retry")  # what can become of events that a router has no handler for


@dataclass(frozen=True, slots=True)
class Way:
    """What happens to the entries of an event.

    Arguments:
        call: takes a message, to its end.
        retries: by which its failures are judged.
        alarm_s: soft limit that a timer has to keep; 0 for none, or one that an event loop keeps.
        name: of the user's function.
        key: of a batch handler, whose `call` takes a list of messages; None for others.
        timeout_s: hard limit of a batch handler's call, if it is not the pool's; 0 for none.
        once_s: how long it is remembered that a message was handled; 0: not at all.
        breaker: number of its event's circuit breaker, None without one.
    """

    call: Callable[[Any], Any]
    retries: Retries
    alarm_s: float
    name: str = ""
    key: int | None = None
    timeout_s: float | None = None
    once_s: float = 0.0
    breaker: int | None = None


class Ways:
    """All ways of a pool's entries, in one worker."""

    def __init__(
        self,
        handler: Handler,
        spec: Spec,
        desk: memoryview[int] | None = None,
        guard: Guard | None = None,
    ) -> None:
        """Combine what the router says with what the pool says.

        Arguments:
            handler: as it was loaded.
            spec: of the pool.
            desk: of the slot, to write limits into that are not the pool's; None only to check.
            guard: has the circuit breakers of the router's events; None for calls that none prevents.

        Raises:
            HandlerError: the two do not go together.
        """
        self._handler, self._spec, self._desk, self.guard = handler, spec, desk, guard
        self._event = ENVELOPES[spec.work.envelope].event
        self._ways: dict[bytes | None, Way] = {}
        self._batches: dict[int, Way] = {}
        self.gathers: dict[int, Gather] = {}  # by the key of the way
        self._other = Way(unknown(spec.work.unknown_event, spec.source), spec.retries, 0.0)
        if spec.work.envelope == "data" and all(route.events for route in handler.routes):
            raise HandlerError(
                f"{handler.name} needs a .default: with the envelope data no entry has an event,"
                " so none of its handlers would ever be called"
            )
        for key, route in enumerate(handler.routes):
            way = self._way(route, key)
            if (gather := route.gathers) is not None:
                self._batches[key], self.gathers[key] = way, gather
            if not route.events:
                self._other = way
            for event in route.events:
                self._ways[event.encode()] = self._with_breaker(way, event.encode())
        every = [self._other, *self._ways.values()]
        self.call = self._dispatch() if self._ways else self._other.call
        self.quota: Quota | None = None
        self.alarm_s = min((way.alarm_s for way in every if way.alarm_s), default=0.0)
        self.most = max(way.retries.max_attempts for way in every)
        self.remembers = any(way.once_s for way in every)  # some of what was handled
        self._retries_differ = any(way.retries != spec.retries for way in every)

    def limit(self, quota: Quota) -> None:
        """Let all calls be counted by a quota, if it has a limit."""
        if not quota.is_limited:
            return
        self.quota, self.call = quota, quota.counted(self.call)
        self._batches = {
            key: replace(way, call=quota.counted_batch(way.call)) for key, way in self._batches.items()
        }

    def of(self, entry: Raw) -> Way:
        """Return the way of an entry."""
        return self._ways.get(self._event(entry[1]), self._other) if self._ways else self._other

    def defer(self, entry: Raw, attempt: int) -> None:
        """Keep an entry whose circuit breaker is not closed, for the attempt of that number."""
        row = self.of(entry).breaker
        assert self.guard is not None
        assert row is not None
        self.guard.defer(row, entry[0], attempt)

    def batch(self, key: int) -> Way:
        """Return the way of a batch handler."""
        return self._batches[key]

    def retries(self, entry: bytes, look: Callable[[bytes], Raw | None]) -> Retries:
        """Return how failures of an entry are judged of which only the id is known.

        Arguments:
            entry: its id.
            look: fetches the entry, None if it is deleted; only called where that makes a difference.
        """
        if not self._retries_differ:
            return self._spec.retries
        found = look(entry)
        return self._spec.retries if found is None else self.of(found).retries

    def _with_breaker(self, way: Way, event: bytes) -> Way:
        row = None if self.guard is None else self.guard.row(event)
        if self.guard is None or row is None:
            return way
        call = way.call if way.key is not None else self.guard.guarded(way.call, row)
        return replace(way, call=call, breaker=row)

    def _dispatch(self) -> Callable[[Message], Any]:
        ways, other, event = self._ways, self._other, self._event

        def dispatch(message: Message) -> Any:
            return ways.get(event(message.entry[1]), other).call(message)

        return dispatch

    def _way(self, route: Route, key: int) -> Way:
        own, pool = route.limits, self._spec
        soft_s = pool.soft_timeout_s if own.soft_timeout is None else own.soft_timeout
        hard_s = pool.timeout_s if own.timeout is None else own.timeout
        if soft_s and hard_s and soft_s >= hard_s:
            raise HandlerError(
                f"{self._handler.name}: {route.name}: its soft_timeout, {soft_s:g} s, must be shorter than"
                f" its timeout, {hard_s:g} s; what a handler does not set is the pool's"
            )
        base_s, max_s = own.backoff or (pool.retries.base_s, pool.retries.max_s)
        retries = Retries(own.max_attempts or pool.retries.max_attempts, base_s, max_s)
        call = self._handler.callable(route, soft_s)
        timeout_s = None if own.timeout == pool.timeout_s else own.timeout
        alarm_s = 0.0 if route.is_async else soft_s
        once_s = pool.work.once_s if own.once is None else lasting_s(own.once)
        if route.gathers is not None:
            return Way(call, retries, alarm_s, route.name, key, timeout_s, once_s)
        if timeout_s is not None and self._desk is not None:
            call = limited(call, self._desk, timeout_s)
        return Way(call, retries, alarm_s, route.name, once_s=once_s)


def limited(call: Callable[[Any], Any], desk: memoryview[int], seconds: float) -> Callable[[Any], Any]:
    """Return a call that tells the master first how long it may take.

    The entry is marked as started by then: whoever sees the mark and not yet the limit takes the pool's.
    """

    def tell(message: Message) -> Any:
        desk[D.LIMIT] = pack(message.entry[0], seconds)
        return call(message)

    return tell


def unknown(what: str, source: Source) -> Callable[[Message], Any]:
    """Return what is called for entries of events that a router has no handler for.

    Those that are ignored are told once for each event, a few at most: a name may be misspelt.

    Arguments:
        what: one of `UNKNOWN`.
        source: where they come from.
    """
    told: set[bytes | None] = set()

    def which(event: bytes | None) -> str:
        if event is None:
            return "no handler for entries without an event"
        return f"no handler for event {text(event[:200])!r}"

    def ignore(message: Message) -> None:
        if len(told) < _TOLD_MAX:
            event = message.envelope.event(message.entry[1])
            if event not in told:
                told.add(event)
                words = "its entries are acknowledged, by --unknown-event ignore"
                log.info("%s/%s: %s: %s", source.stream, source.group, which(event), words)
        raise Ignored

    def fail(message: Message) -> None:
        event = message.envelope.event(message.entry[1])
        raise UnknownEvent(which(event), dead=what == "dead-letter")

    return ignore if what == "ignore" else fail
