"""Both producers behind one face, so that one test holds for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Self

from rsq.streams.async_producer import AsyncProducer
from rsq.streams.meter import ProducerMetrics
from rsq.streams.producer import Producer


class Blocking:
    """An AsyncProducer with an event loop of its own, called without `await`."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._producer = AsyncProducer(*args, **settings)
        self._runner = asyncio.Runner()
        self.stream = self._producer.stream

    def push(self, *args: Any, **more: Any) -> str:
        return self._runner.run(self._producer.push(*args, **more))

    def push_many(self, items: Iterable[Any], *args: Any, **more: Any) -> int:
        return self._runner.run(self._producer.push_many(items, *args, **more))

    def ensure_group(self, *args: Any) -> bool:
        return self._runner.run(self._producer.ensure_group(*args))

    @property
    def metrics(self) -> ProducerMetrics:
        return self._producer.metrics

    def close(self) -> None:
        self._runner.run(self._producer.close())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Streaming(Blocking):
    """The same, with items that come by `async for`."""

    def push_many(self, items: Iterable[Any], *args: Any, **more: Any) -> int:
        async def slowly() -> AsyncIterator[Any]:
            for item in items:
                yield item

        return self._runner.run(self._producer.push_many(slowly(), *args, **more))


AnyProducer = Producer | Blocking
Make = Callable[..., AnyProducer]
FACES: tuple[Make, ...] = (Producer, Blocking, Streaming)
