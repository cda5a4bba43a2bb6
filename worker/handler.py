"""The user's contract: finding a handler, checking it, calling it."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar

from .eventloop import EventLoop, limited
from .router import Route, Router, check_gather, check_routes
from .signature import HandlerError, as_coroutine, check
from .verdict import OURS

Hook = Callable[[], Any]
H = TypeVar("H", bound=Hook)
_MARK = "__rsq_hook__"


def worker_start(hook: H) -> H:
    """Mark a function of the handler's module to be called in every new worker, before it reads."""
    return _mark(hook, "worker_start")


def worker_stop(hook: H) -> H:
    """Mark a function of the handler's module to be called in a worker that ends in good order."""
    return _mark(hook, "worker_stop")


def _mark(hook: H, name: str) -> H:
    setattr(hook, _MARK, name)
    return hook


@dataclass(slots=True)
class Handler:
    """A found handler.

    Arguments:
        name: `module:attribute` as it was asked for.
        routes: of a router; of a plain function, one that is the default.
        starts: hooks for the begin of a worker.
        stops: hooks for its end, in the order they are to run.
    """

    name: str
    routes: tuple[Route, ...]
    starts: tuple[Hook, ...] = ()
    stops: tuple[Hook, ...] = ()
    _loop: EventLoop = field(default_factory=EventLoop, repr=False)

    def callable(self, route: Route, soft_timeout_s: float) -> Callable[[Any], Any]:
        """Return what the worker's loop calls; a function that is async is run to its end.

        Arguments:
            route: one of ours.
            soft_timeout_s: limit for async functions, 0 for none; others get theirs by a timer.
        """
        function = route.function
        if not route.is_async:
            return function

        function = as_coroutine(function)
        if soft_timeout_s:
            function = limited(function, soft_timeout_s)
        return lambda message: self._loop.run(function(message), message)

    def start(self) -> None:
        """Run the hooks for the begin of a worker."""
        for hook in self.starts:
            self._call(hook)

    def stop(self) -> None:
        """Run the hooks for the end of a worker, and close the event loop."""
        self.run_stops()
        self.close_loop()

    def run_stops(self) -> None:
        """Run the hooks for the end of a worker."""
        for hook in self.stops:
            self._call(hook)

    def close_loop(self) -> None:
        """Close the event loop of async functions; the next call of one opens another."""
        self._loop.close()

    def _call(self, hook: Hook) -> None:
        result = hook()
        if inspect.isawaitable(result):
            self._loop.run(result)


def load(name: str) -> Handler:
    """Import a handler, a function or a router, and check that it can be called with one message.

    Arguments:
        name: `module:attribute`; the attribute may be dotted. The working directory is searched too.

    Raises:
        HandlerError: it is not there, does not import, or does not take one argument.
    """
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise HandlerError(
            f"{name!r} does not name a handler: write MODULE:FUNCTION, for example app.tasks:handle"
        )
    module = _import(module_name)
    found: Any = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise HandlerError(f"there is no {path!r} in {module_name} ({_file(module)})") from None
    return examine(found, name, module)


def examine(found: Any, name: str, module: ModuleType) -> Handler:
    """Check that something can be called with one message, or routes messages.

    Arguments:
        found: the handler, a function or a router.
        name: what errors call it.
        module: whose hooks are run with it.

    Raises:
        HandlerError: it does not take one argument, or is a router that cannot be used.
    """
    if isinstance(found, Router):
        check_routes(found.routes, name)
        routes = tuple(found.routes)
    else:
        routes = (Route((), found),)
        check(found, name, many=routes[0].gathers is not None)
        check_gather(routes[0].gathers, name)
    return Handler(name, routes, *_hooks(module))


def _import(name: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except BaseException as error:
        if isinstance(error, SystemExit) and type(error) is not SystemExit:
            raise  # not the module's own: the pool was told to end while it imports
        if isinstance(error, ModuleNotFoundError) and (
            name == error.name or name.startswith(f"{error.name}.")
        ):
            raise HandlerError(f"there is no module {name!r}; searched {here} and the Python path") from None
        where = [
            f"{frame.f_code.co_filename}:{line}"
            for frame, line in traceback.walk_tb(error.__traceback__)
            if not frame.f_globals.get("__name__", "").startswith(OURS)
        ][-1]
        if isinstance(error, HandlerError):  # of a decorator of ours
            raise HandlerError(f"{error} ({where})") from error
        words = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise HandlerError(f"module {name!r} does not import: {words} ({where})") from error


def _hooks(module: ModuleType) -> tuple[tuple[Hook, ...], tuple[Hook, ...]]:
    """Return the start and the stop hooks of a module: by decorator, or by name."""
    hooks: dict[str, list[Hook]] = {"worker_start": [], "worker_stop": []}
    for name, value in vars(module).items():
        if inspect.isfunction(value):
            kind = getattr(value, _MARK, name if value.__module__ == module.__name__ else None)
            if kind in hooks and value not in hooks[kind]:
                hooks[kind].append(value)
    return tuple(hooks["worker_start"]), tuple(reversed(hooks["worker_stop"]))


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "built in"
