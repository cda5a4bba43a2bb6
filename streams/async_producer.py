"""AsyncProducer: the producer for asyncio. What it sends, and when it sends it again: `pushing`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

from redis import asyncio as aio
from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from . import async_connection, connection
from .durations import Duration, seconds
from .meter import ProducerMetrics
from .pushing import BATCH, OnFull, Pusher
from .steps import Heard, Pause, Result, Steps, Talk, replaced

CONNECTIONS = 8  # more tasks than these wait for their turn: a connection each would be many


class AsyncProducer:
    """Pushes messages onto one stream. Tasks of one event loop may share it."""

    def __init__(
        self,
        url_or_client: str | aio.Redis = "redis://localhost:6379/0",
        stream: str = "events",
        *,
        prefix: str = "",
        serializer: str = "json",
        maxlen: int | None = None,
        exact: bool = False,
        on_full: OnFull = "trim",
        block: Duration = 60.0,
        allow_pickle: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        """Prepare it; the first push connects. Arguments as for `Producer`; a client is an asyncio one."""
        self.stream = prefix + stream
        patience_s, target = 0.0, None
        self._pool: Any  # redis-py has typed little of it
        self._owned = isinstance(url_or_client, str)
        if isinstance(url_or_client, str):
            target = connection.target(url_or_client).for_key(self.stream)
            self._pool = async_connection.pool(target, timeout_s=timeout_s, name="rsq-producer")
            patience_s = timeout_s if target.way != "direct" else 0.0
        else:
            self._pool = url_or_client.connection_pool
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._pusher = Pusher(
            self.stream, serializer=serializer, allow_pickle=allow_pickle, maxlen=maxlen, exact=exact,
            on_full=on_full, block_s=seconds(block), timeout_s=timeout_s, patience_s=patience_s,
            server=target,
        )  # fmt: skip

    async def push(
        self,
        data: Any,
        event: str | None = None,
        *,
        key: str | None = None,
        traceparent: str | None = None,
        unique: Duration | None = None,
        refuse: bool = False,
    ) -> str:
        """Push one message; see `Producer.push`. If it is cancelled, nobody knows whether it is there."""
        return await self._do(self._pusher.push(data, event, key, traceparent, unique, refuse))

    async def push_many(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        event: str | None = None,
        batch: int = BATCH,
        *,
        key: Callable[[Any], str] | None = None,
        traceparent: str | None = None,
    ) -> int:
        """Push many messages; see `Producer.push_many`. The items may come by `async for`."""
        batches = self._pusher.batches(event, batch, key, traceparent)
        if not isinstance(items, AsyncIterable):
            return await self._do(self._pusher.push_many(items, batches))
        try:
            async for item in items:
                if batches.add(item):
                    await self._do(batches.send())
        finally:
            await self._do(batches.send())
        return batches.pushed

    async def ensure_group(self, group: str, start_id: str = "0") -> bool:
        """Make a consumer group, and the stream, unless they are there; see `Producer.ensure_group`."""
        return await self._do(self._pusher.ensure_group(group, start_id))

    @property
    def metrics(self) -> ProducerMetrics:
        """What it has done so far; `producer_metrics` has those of all producers of the process."""
        return self._pusher.meter.metrics(time.monotonic())

    async def close(self) -> None:
        """Close the connections, unless they are those of a client given by the caller."""
        if self._owned:
            await self._pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _do(self, steps: Steps[Result]) -> Result:
        heard: Heard | None = None
        while True:
            try:
                step = steps.send(heard)
            except StopIteration as end:
                result: Result = end.value
                return result
            if isinstance(step, Pause):
                await asyncio.sleep(step.seconds)
                heard = None
            else:
                async with self._turns:
                    heard = await self._talk(step)

    async def _talk(self, talk: Talk) -> Heard:
        try:
            link = await self._pool.get_connection()
        except RedisError as error:
            return Heard([], error, sent=False)
        heard, began = Heard([]), time.monotonic()
        try:
            await link.send_packed_command([talk.data])
            while len(heard.answers) < talk.count:
                try:
                    heard.answers.append(await link.read_response())
                except (ResponseError, BusyLoadingError) as error:
                    heard.answers.append(error)
        except RedisError as error:
            heard.lost = error
        except BaseException:
            await link.disconnect(nowait=True)  # answers are still under way: nobody may read them as theirs
            raise
        else:
            if heard.wrong_server:
                await link.disconnect()  # the next connection leads to the right server
            elif heard.is_late(began) and await async_connection.is_replaced(link):
                await link.disconnect()
                heard = replaced()
        finally:
            await self._pool.release(link)
        return heard
