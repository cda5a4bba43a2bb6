"""Handlers of dead letters: whose letters are meant, when several groups write theirs into one stream."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from ..streams.entry import Message
from .handler import Handler
from .router import Route

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

    def narrowed(route: Route) -> Route:
        function = route.function

        def handle(message: Message) -> Any:
            return function(message) if is_meant(message) else None

        async def handle_async(message: Message) -> Any:
            return await function(message) if is_meant(message) else None

        return replace(route, function=handle_async if route.is_async else handle)

    return replace(handler, routes=tuple(map(narrowed, handler.routes)))
