"""Adapters: decorators for handlers that were written for another signature than ours.

Each takes a plain function or an `async def`, and gives a handler of one message; they can be put on each
other, and go below `@app.on(...)` of a router as well as on a plain handler.

    @bool_result
    @data_only
    def handle(order): return order["paid"]
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

from ..streams.entry import Message
from .router import GATHER, Gather
from .signature import ONE, HandlerError, has_yield, is_async
from .verdict import Retry

Handle = Callable[[Message], Any]


def data_only(function: Callable[[Any], Any]) -> Handle:
    """Adapt `function(data)`."""
    return _adapted(function, lambda message: (message.data,))


def data_and_message(function: Callable[[Any, Message], Any]) -> Handle:
    """Adapt `function(data, message)`."""
    return _adapted(function, lambda message: (message.data, message))


def bool_result(function: Callable[[Any], Any]) -> Handle:
    """Adapt a handler that returns `False` where the entry is to be tried again; all else is done."""

    def judge(result: Any) -> Any:
        if result is False:
            raise Retry("the handler returned False")
        return result

    return _adapted(function, lambda message: (message,), judge)


def message_list(
    function: Callable[[list[Any]], Any] | None = None, /, *, size: int = 100, wait: float = 0.0
) -> Any:
    """Adapt a handler that takes a list of messages and returns the ids of those that are done.

    As a plain handler, and below `@app.on` or `@app.default`, it gets batches; `@app.batch` has numbers of
    its own.

    Arguments:
        size: most entries of one call.
        wait: seconds after which a call is made with what has come.
    """

    def adapt(function: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
        setattr(function, GATHER, Gather(size, wait))
        return function

    return adapt if function is None else adapt(function)


def _adapted(
    function: Callable[..., Any],
    arguments: Callable[[Message], tuple[Any, ...]],
    judge: Callable[[Any], Any] | None = None,
) -> Handle:
    """Return a handler that calls a function in its own way.

    Raises:
        HandlerError: a call of the function would run nothing, or it takes a list of messages.
    """
    name = getattr(function, "__qualname__", None) or repr(function)
    if hasattr(function, GATHER):
        raise HandlerError(f"{name} takes a list of messages: no other adapter goes above message_list")
    if has_yield(function):
        raise HandlerError(f"{name} has a yield, so a call of it would run nothing: let it return")

    async def later(message: Message) -> Any:
        result = await function(*arguments(message))
        return result if judge is None else judge(result)

    def now(message: Message) -> Any:
        result = function(*arguments(message))
        return result if judge is None else judge(result)

    adapted: Any = functools.update_wrapper(later if is_async(function) else now, function)
    setattr(adapted, ONE, True)
    del adapted.__wrapped__  # who asks for the signature gets that of the adapted one
    return cast("Handle", adapted)
