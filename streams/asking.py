"""Several questions in one round trip, replies as the server sends them: bytes, lists, numbers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import ResponseError

from .letter import name_bytes
from .trouble import elsewhere

Command = tuple[str | bytes | int, ...]


_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.0, 1.0)


class Asker:
    """Sends commands together.

    None is sent again, unless this server says that it did not execute it and there is another to be found.
    """

    def __init__(self, client: redis.Redis) -> None:
        """Nothing is asked of the server yet.

        Arguments:
            client: whose connections are used, replies as bytes; it stays the caller's to close.
        """
        # Without redis-py's idea of each reply: its dicts and objects differ by release.
        self._redis = redis.Redis(connection_pool=client.connection_pool)
        self._redis.response_callbacks.clear()
        # redis-py does it itself where it raises errors; where they are values, it takes them for answers.
        self._pauses_s = _PAUSES_S if client.connection_pool.connection_kwargs.get("place") else ()

    def ask(self, *commands: Command, together: bool = False) -> list[Any]:
        """Send all commands, and return the reply to each; an error reply stands in its place.

        Arguments:
            commands: text is sent as the bytes it was made of.
            together: in one transaction.

        Raises:
            redis.exceptions.RedisError: the server could not be asked at all.
        """
        replies = self._send(commands, together=together)
        for pause_s in self._pauses_s:
            again = [
                at
                for at, reply in enumerate(replies)
                if isinstance(reply, ResponseError) and elsewhere(reply)
            ]
            if not again:
                break
            time.sleep(pause_s)
            for at, reply in zip(again, self._send([commands[at] for at in again]), strict=True):
                replies[at] = reply
        return replies

    def _send(self, commands: Sequence[Command], *, together: bool = False) -> list[Any]:
        if not commands:
            return []
        untyped: Any = self._redis
        with untyped.pipeline(transaction=together) as pipe:
            for command in commands:
                pipe.execute_command(
                    *(name_bytes(word) if isinstance(word, str) else word for word in command)
                )
            replies: list[Any] = pipe.execute(raise_on_error=together)
        return replies


def good(reply: Any, *allowed: str) -> Any:
    """Return a reply, None for an error that has one of these texts in it; raise any other error."""
    if isinstance(reply, ResponseError) and any(words in str(reply) for words in allowed):
        return None
    if isinstance(reply, Exception):
        raise reply
    return reply


def fields(flat: Any) -> dict[bytes, Any]:
    """Return the pairs of a flat reply, as of HGETALL or XINFO."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
