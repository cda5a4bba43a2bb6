"""How asyncio reaches the server: a pool like the one of `connection.client`, by the same rules."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import redis
from redis import asyncio as aio
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError

from .connecting import AGAIN, AGAIN_BASE_S, AGAIN_MAX_S, WRONG_SERVER, settings_of
from .connection import CONNECT_PAUSES_S, Place, Target, elsewhere, naming, permanent, unless_needed


def pool(target: Target, *, timeout_s: float, name: str) -> aio.ConnectionPool:
    """A pool of connections of one event loop; nothing is connected yet. See `connection.client`."""
    kind, settings = settings_of(target, timeout_s)
    times = 0
    if target.way != "direct":
        settings["place"], times = Place(target, timeout_s), AGAIN
    settings["label"] = name
    settings["retry"] = Retry(ExponentialBackoff(AGAIN_MAX_S, AGAIN_BASE_S), times, WRONG_SERVER)
    return aio.ConnectionPool(connection_class=_PATIENT[kind], **settings)


class Patient(AbstractConnection):
    """Connects again after a short while; see `connection`."""

    host: str
    port: int

    def __init__(self, label: str, place: Place | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._place, self._label = place, label
        self._is_wrong = False  # the server has said so

    async def is_replaced(self) -> bool:
        """Tell whether another server has taken the place of this one, by the sentinels' word."""
        watch = self._place.lookout if self._place else None
        if watch is None:
            return False
        address = (self.host, self.port)
        if time.monotonic() < watch.due:
            return not watch.still(address)
        return not await asyncio.to_thread(watch.still, address)

    async def connect(self) -> None:
        if self.is_connected and (self._is_wrong or await self.is_replaced()):
            await self.disconnect(nowait=True)
        if not self.is_connected:
            await self._connect_patiently()

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        await (
            self.connect()
        )  # what redis-py does here by itself after a disconnect would not look for the server
        above: Any = super()
        await above.send_packed_command(*args, **options)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        above: Any = super()
        try:
            return await above.read_response(*args, **options)
        except RedisError as error:
            self._is_wrong = self._is_wrong or elsewhere(error)
            raise

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
        if self._place is not None:
            self.host, self.port = await asyncio.to_thread(
                self._place.find
            )  # it asks several, each for a while
        self._is_wrong = False
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


async def is_replaced(link: Any) -> bool:
    """Whether another server took the place of the one that a connection leads to, as far as is known."""
    return isinstance(link, Patient) and await link.is_replaced()


class _PatientTcp(Patient, Connection):
    pass


class _PatientTls(Patient, SSLConnection):
    pass


class _PatientUnix(Patient, UnixDomainSocketConnection):
    pass


_PATIENT: dict[Any, Any] = {
    redis.connection.Connection: _PatientTcp,
    redis.connection.SSLConnection: _PatientTls,
    redis.connection.UnixDomainSocketConnection: _PatientUnix,
}
