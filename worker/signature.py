"""What a function of the user's can be called with: checked before anything runs."""

from __future__ import annotations

import inspect


class HandlerError(ValueError):
    """A handler, or its router, cannot be used; one line for a person."""


def check(function: object, name: str, what: str = "the message") -> None:
    """Make sure that a handler can be called with one argument.

    Arguments:
        function: what the user gave.
        name: how to call it in the error.
        what: that it is called with.

    Raises:
        HandlerError: it cannot.
    """
    if not callable(function):
        kind = type(function).__name__
        raise HandlerError(f"{name} is of type {kind}, not a function that takes {article(what)}")
    try:
        inspect.signature(function).bind(None)
    except TypeError as error:
        raise HandlerError(f"{name} must take one argument, {what}: {error}") from None
    except ValueError:
        pass  # a built-in that does not tell its arguments


def article(what: str) -> str:
    """Return `a message` for `the message`; a plural has none."""
    return what.replace("the ", "a ", 1)


def is_async(function: object) -> bool:
    """Tell whether calling it gives a coroutine; an instance with an async `__call__` counts."""
    call = function if inspect.isroutine(function) else getattr(type(function), "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)
