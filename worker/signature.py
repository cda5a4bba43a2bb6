"""What a function of the user's can be called with: checked before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

ONE = "__rsq_one__"  # attribute of a function that an adapter made into a handler of one message


class HandlerError(ValueError):
    """A handler, or its router, cannot be used; one line for a person."""


def check(function: object, name: str, *, many: bool = False) -> None:
    """Make sure that a handler can be called with one argument, and does its work when it is called.

    Arguments:
        function: what the user gave.
        name: how to call it in the error.
        many: it is called with a list of messages, not with a message.

    Raises:
        HandlerError: it cannot, or does not.
    """
    what = "list of messages" if many else "message"
    if not callable(function):
        kind = type(function).__name__
        raise HandlerError(f"{name} is of type {kind}, not a function that takes a {what}")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise HandlerError(f"{name} must take one argument, the {what}: {error}") from None
    except ValueError:
        pass  # a built-in that does not tell its arguments
    if many and getattr(function, ONE, False):
        raise HandlerError(
            f"{name} takes one message, by its adapter, and would be called with a list of them"
        )
    if not many and has_yield(function):
        raise HandlerError(f"{name} has a yield, so a call of it would run nothing: let it return")


def is_async(function: object) -> bool:
    """Tell whether calling it gives what an event loop has to run; an instance with such a call counts."""
    return _is(inspect.iscoroutinefunction, function) or is_async_generator(function)


def is_async_generator(function: object) -> bool:
    """Tell whether it is an `async def` with a `yield`."""
    return _is(inspect.isasyncgenfunction, function)


def as_coroutine(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return an async function as one to be awaited: of what it yields, if it does, as a list."""
    if not is_async_generator(function):
        return function

    async def gathered(argument: Any) -> list[Any]:
        return [one async for one in function(argument)]

    return gathered


def has_yield(function: object) -> bool:
    """Tell whether calling it runs nothing yet, for there is a `yield` in it."""
    return _is(inspect.isgeneratorfunction, function) or is_async_generator(function)


def _is(test: Callable[[object], bool], function: object) -> bool:
    call = function if inspect.isroutine(function) else getattr(type(function), "__call__", None)  # noqa: B004
    return test(function) or test(call)
