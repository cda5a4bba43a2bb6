"""Handlers of dead letters: whose letters are meant, when several groups write theirs into one stream."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from ..streams.entry import Message
from .handler import Handler
from .router import Route
from .signature import as_coroutine

Origin = tuple[str, str]  # stream and group that gave an entry up


def addressed(handler: Handler, origins: Collection[Origin]) -> Handler:
    """Return a handler that is called with the dead letters of some groups and passes over all else.

    Arguments:
        handler: of the dead letters.
        origins: stream and group of each pool whose dead letters they are.
    """

    def is_meant(message: Message) -> bool:
        letter = message.letter
        return letter is not None and (letter.stream, letter.group) in origins

    def ours(messages: list[Any]) -> list[Any]:
        """Return those that are meant; the others are done at once, whatever becomes of the call."""
        meant = []
        for message in messages:
            if is_meant(message):
                meant.append(message)
            else:
                message.done()
        return meant

    def narrowed(route: Route) -> Route:
        function = as_coroutine(route.function) if route.is_async else route.function

        def one(message: Message) -> Any:
            return function(message) if is_meant(message) else None

        async def one_async(message: Message) -> Any:
            return await function(message) if is_meant(message) else None

        def many(messages: list[Any]) -> Any:
            return function(meant) if (meant := ours(messages)) else ()

        async def many_async(messages: list[Any]) -> Any:
            return await function(meant) if (meant := ours(messages)) else ()

        sync, later = (one, one_async) if route.gathers is None else (many, many_async)
        chosen: Any = later if route.is_async else sync
        chosen.__qualname__ = route.name
        return replace(route, function=chosen, gather=route.gathers)

    return replace(handler, routes=tuple(map(narrowed, handler.routes)))
