"""redis-stream-queue: batches from a consumer group in an asyncio loop; the handler gets the whole batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Any

from .account import buried, handled, payload

PACKAGES = ("redis-stream-queue", "redis")
SETTINGS = {
    "default": "batch_size 100, json",
    "tuned": "batch_size 1000, an orjson serializer, one claim pass",
}
MESSAGES = {"default": 50_000, "tuned": 100_000}
CANNOT = "no process of its own: nothing restarts it"


async def _push(url: str, numbers: Iterable[int], batch: int) -> None:
    from redis_stream_queue import StreamClient, StreamProducer

    producer = StreamProducer(StreamClient.from_url(url), "jobs", "workers", max_len=10_000_000)
    await producer.ensure_group()
    following = iter(numbers)
    while rows := [payload(number) for number in islice(following, batch)]:
        await producer.push_many(rows)
    await producer.close()


def fill(url: str, numbers: Iterable[int]) -> None:
    """Push many at once."""
    asyncio.run(_push(url, numbers, 1000))


def send(url: str, numbers: Iterable[int]) -> None:
    """Push one by one."""
    asyncio.run(_push(url, numbers, 1))


class Orjson:
    """A faster serializer, as its documentation invites to bring."""

    def __init__(self) -> None:
        import orjson

        self.encode, self.decode = orjson.dumps, orjson.loads


async def _handle(messages: list[Any]) -> list[str]:
    for message in messages:
        handled(message.data)
    return [message.id for message in messages]


async def _letter(message: Any, reason: str) -> None:
    buried(message.data)


def work(url: str, setting: str) -> None:
    """Consume until killed."""
    from redis_stream_queue import ConsumerConfig, StreamClient, StreamConsumer

    more: Any = {"batch_size": 1000, "max_claim_passes": 1} if setting == "tuned" else {}
    consumer = StreamConsumer(
        StreamClient.from_url(url), "jobs", ConsumerConfig("workers", **more), _handle, _letter,
        serializer=Orjson() if setting == "tuned" else None,
    )  # fmt: skip
    asyncio.run(consumer.run())
