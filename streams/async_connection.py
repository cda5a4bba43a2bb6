"""How asyncio reaches the server: a pool like the one of `connection.client`, by the same rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import redis
from redis import asyncio as aio
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from .connection import (
    AGAIN,
    AGAIN_BASE_S,
    AGAIN_MAX_S,
    CONNECT_PAUSES_S,
    WRONG_SERVER,
    Target,
    find,
    naming,
    permanent,
    settings_of,
    unless_needed,
)
from .discovery import Address


def pool(target: Target, *, timeout_s: float, name: str) -> aio.ConnectionPool:
    """A pool of connections of one event loop; nothing is connected yet. See `connection.client`."""
    kind, settings = settings_of(target, timeout_s)
    times = 0
    if target.way != "direct":
        settings["find"], times = lambda: find(target, timeout_s), AGAIN
    settings["label"] = name
    settings["retry"] = Retry(ExponentialBackoff(AGAIN_MAX_S, AGAIN_BASE_S), times, WRONG_SERVER)
    return aio.ConnectionPool(connection_class=_PATIENT[kind], **settings)


class _Patient(AbstractConnection):
    """Connects again after a short while, each time to where `find` says that the server is now."""

    def __init__(self, label: str, find: Callable[[], Address] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._find, self._label = find, label

    async def connect(self) -> None:
        if not self.is_connected:
            await self._connect_patiently()

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        await self.connect()  # what redis-py does here by itself after a disconnect would skip `find`
        above: Any = super()
        await above.send_packed_command(*args, **options)

    async def _connect_patiently(self) -> None:
        for pause in CONNECT_PAUSES_S:
            try:
                await self._connect_once()
                return
            except (redis.exceptions.ConnectionError, *WRONG_SERVER) as error:
                if permanent(error):
                    raise
            await asyncio.sleep(pause)
        await self._connect_once()

    async def _connect_once(self) -> None:
        if self._find is not None:
            self.host, self.port = await asyncio.to_thread(self._find)  # it asks several, each for a while
        above: Any = super()
        await above.connect()
        try:
            await self._give_name()
        except BaseException:
            await self.disconnect()
            raise

    async def _give_name(self) -> None:
        await self.send_command(*naming(self._label))
        try:
            await self.read_response()
        except redis.exceptions.ResponseError as error:
            unless_needed(error)


class _PatientTcp(_Patient, Connection):
    pass


class _PatientTls(_Patient, SSLConnection):
    pass


class _PatientUnix(_Patient, UnixDomainSocketConnection):
    pass


_PATIENT: dict[Any, Any] = {
    redis.connection.Connection: _PatientTcp,
    redis.connection.SSLConnection: _PatientTls,
    redis.connection.UnixDomainSocketConnection: _PatientUnix,
}
