"""The router: which function handles the entries of which event, and by which limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from ..ipc.journal import JOURNAL_MAX
from ..streams.bounds import SECONDS_MAX, number, shown
from ..streams.durations import Duration
from ..streams.once import lasting_s
from .fuse import Breaker, check_breakers
from .signature import HandlerError, check, is_async

F = TypeVar("F", bound=Callable[..., Any])
_ATTEMPTS_MAX = 10**6
GATHER = "__rsq_gather__"  # attribute of a function that takes a list of messages wherever it is put


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for one event; None is what holds for the pool. Times in seconds.

    Arguments:
        max_attempts: starts of the handler before an entry is dead.
        timeout: hard limit of one call, by SIGKILL; 0 for none.
        soft_timeout: after this a `SoftTimeout` is raised inside the call; 0 for none.
        backoff: ceiling of the first retry's delay, and the highest ceiling.
        once: how long it is remembered that a message was handled, as `1d` or in seconds; 0: not at all.
        breaker: keeps entries from the handler while it fails again and again; None for none.
    """

    max_attempts: int | None = None
    timeout: float | None = None
    soft_timeout: float | None = None
    backoff: tuple[float, float] | None = None
    once: Duration | None = None
    breaker: Breaker | None = None


@dataclass(frozen=True, slots=True)
class Gather:
    """How many entries a batch handler gets in one call.

    Arguments:
        size: at most so many.
        wait_s: no later than so many seconds after the first has come.
    """

    size: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Route:
    """A function, and whose entries it handles.

    Arguments:
        events: their names; none at all: those that no other route has.
        function: of the user's.
        limits: of its own.
        gather: of a batch handler, which takes a list of messages; None for others.
    """

    events: tuple[str, ...]
    function: Callable[[Any], Any]
    limits: Limits = Limits()
    gather: Gather | None = None

    @property
    def name(self) -> str:
        """What errors call it."""
        return getattr(self.function, "__qualname__", None) or repr(self.function)

    @property
    def gathers(self) -> Gather | None:
        """How its function wants its messages: by its decorator's word, or else by the adapter's."""
        return self.gather or getattr(self.function, GATHER, None)

    @property
    def is_async(self) -> bool:
        """Tell whether its function has to run in an event loop."""
        return is_async(self.function)


class Router:
    """Several handlers for one stream, by the name of the event.

    `rsq-supervisor module:app` takes one as it takes a function. Mistakes are found at the start of the pool.
    """

    def __init__(self) -> None:
        """Begin without a handler."""
        self.routes: list[Route] = []

    def on(
        self,
        *events: str,
        max_attempts: int | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        backoff: tuple[float, float] | None = None,
        once: Duration | None = None,
        breaker: Breaker | None = None,
    ) -> Callable[[F], F]:
        """Decorate the handler of one or several events.

        Arguments:
            events: their names.
            max_attempts, timeout, soft_timeout, backoff, once: see `Limits`; those of the pool if left out.
            breaker: of each of the events; none if left out.

        Raises:
            HandlerError: there is no name, or it is none.
        """
        limits = Limits(max_attempts, timeout, soft_timeout, backoff, once, breaker)
        check_events(events, ".on")

        def add(function: F) -> F:
            self.routes.append(Route(events, function, limits))
            return function

        return add

    def batch(
        self,
        *events: str,
        size: int,
        wait: float,
        max_attempts: int | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        backoff: tuple[float, float] | None = None,
        once: Duration | None = None,
        breaker: Breaker | None = None,
    ) -> Callable[[F], F]:
        """Decorate a handler that takes a list of messages, of one or several events.

        What it returns, ids or messages, is done; the others are tried again. `message.done()` marks one at
        once. An exception fails all that are not marked.

        Arguments:
            events: their names.
            size: most entries of one call.
            wait: seconds after which a call is made with what has come, from the first of its entries on.
            max_attempts, timeout, soft_timeout, backoff, once: see `Limits`; time limits are those of a whole
                call.
            breaker: of each of the events; none if left out. A call that raises is one failure.

        Raises:
            HandlerError: there is no name, or it is none.
        """
        limits = Limits(max_attempts, timeout, soft_timeout, backoff, once, breaker)
        check_events(events, ".batch")

        def add(function: F) -> F:
            self.routes.append(Route(events, function, limits, Gather(size, wait)))
            return function

        return add

    @overload
    def default(self, function: F) -> F: ...

    @overload
    def default(
        self,
        *,
        max_attempts: int | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        backoff: tuple[float, float] | None = None,
        once: Duration | None = None,
    ) -> Callable[[F], F]: ...

    def default(
        self,
        function: Callable[..., Any] | None = None,
        *,
        max_attempts: int | None = None,
        timeout: float | None = None,
        soft_timeout: float | None = None,
        backoff: tuple[float, float] | None = None,
        once: Duration | None = None,
    ) -> Any:
        """Decorate the handler of all that no other handler is for, entries without an event too.

        Arguments:
            max_attempts, timeout, soft_timeout, backoff, once: see `Limits`; those of the pool if left out.
        """
        limits = Limits(max_attempts, timeout, soft_timeout, backoff, once)

        def add(function: F) -> F:
            self.routes.append(Route((), function, limits))
            return function

        return add if function is None else add(function)


def check_routes(routes: list[Route], name: str) -> None:
    """Make sure that a router can be used.

    Arguments:
        routes: of the router, in the order of its decorators.
        name: of the router, as it was asked for.

    Raises:
        HandlerError: it cannot; says the first reason.
    """
    if not routes:
        raise HandlerError(f"{name} has no handlers: decorate some with .on(EVENT) or .default")
    taken: dict[str, Route] = {}
    for route in routes:
        whose = ", ".join(map(repr, route.events)) if route.events else "the default"
        for event in route.events or ("",):
            if event in taken:
                which = f"event {event!r}" if event else "the default"
                raise HandlerError(f"{name}: {which} has two handlers, {taken[event].name} and {route.name}")
            taken[event] = route
        gather = route.gathers
        check(route.function, f"{name}: {route.name}, handler of {whose},", many=gather is not None)
        check_gather(gather, f"{name}: {route.name}")
        check_limits(route.limits, f"{name}: {route.name}")
    try:
        check_breakers(routes)
    except ValueError as error:
        raise HandlerError(f"{name}: {error}") from None


def check_events(events: tuple[object, ...], decorator: str) -> None:
    """Make sure that a decorator was given names of events.

    Raises:
        HandlerError: it was not.
    """
    if not events or not all(isinstance(event, str) and event for event in events):
        raise HandlerError(f"{decorator} needs the name of an event: write {decorator}('order.created')")


def check_gather(gather: Gather | None, name: str) -> None:
    """Make sure that a batch can be gathered.

    Raises:
        HandlerError: it cannot.
    """
    if gather is None:
        return
    if not (type(gather.size) is int and 1 <= gather.size <= JOURNAL_MAX):
        raise HandlerError(f"{name}: size is a number from 1 to {JOURNAL_MAX}, not {shown(gather.size)}")
    if not is_seconds(gather.wait_s):
        raise HandlerError(f"{name}: wait is a number of seconds, not {shown(gather.wait_s)}")


def check_limits(limits: Limits, name: str) -> None:
    """Make sure that limits make sense by themselves.

    Raises:
        HandlerError: they do not.
    """
    most = limits.max_attempts
    if most is not None and not (type(most) is int and 1 <= most <= _ATTEMPTS_MAX):
        raise HandlerError(f"{name}: max_attempts is a number from 1 to {_ATTEMPTS_MAX}, not {shown(most)}")
    for what, value in (("timeout", limits.timeout), ("soft_timeout", limits.soft_timeout)):
        if value is not None and not is_seconds(value):
            raise HandlerError(f"{name}: {what} is a number of seconds, 0 for none, not {shown(value)}")
    if limits.backoff is not None:
        match limits.backoff:
            case (base, most_s) if is_seconds(base) and is_seconds(most_s) and base <= most_s:
                pass
            case _:
                words = "backoff is (first, most) in seconds, the second not smaller"
                raise HandlerError(f"{name}: {words}, not {shown(limits.backoff)}")
    if limits.once is not None:
        try:
            lasting_s(limits.once)
        except (TypeError, ValueError) as error:
            raise HandlerError(f"{name}: once: {error}") from None
    if limits.breaker is not None:
        if not isinstance(limits.breaker, Breaker):
            raise HandlerError(f"{name}: breaker is a Breaker(...), not {limits.breaker!r}")
        try:
            limits.breaker.limits()
        except ValueError as error:
            raise HandlerError(f"{name}: breaker: {error}") from None


def is_seconds(value: object) -> bool:
    """Tell whether this can be a time: a finite number, not negative."""
    if not isinstance(value, int | float):
        return False
    try:
        number(value, 0.0, SECONDS_MAX)
    except ValueError:
        return False
    return True
