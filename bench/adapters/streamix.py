"""streamix-queue: one consumer of one event of a stream, an ack per message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .account import handled, payload

PACKAGES = ("streamix-queue", "redis")
SETTINGS = {"default": "batch_size 10", "tuned": "batch_size 500"}
MESSAGES = {"default": 8_000, "tuned": 10_000}
CANNOT = "no process of its own: nothing restarts it"


def send(url: str, numbers: Iterable[int]) -> None:
    """Push one by one."""
    from streamix_queue.producer import Producer
    from streamix_queue.transport import RedisStreamTransport

    transport = RedisStreamTransport(url, "jobs", "workers")
    transport.ensure_group()
    producer = Producer(transport)
    for number in numbers:
        producer.publish("order", payload(number))


def _handle(data: Any) -> None:
    handled(data)


def work(url: str, setting: str) -> None:
    """Consume until killed."""
    from streamix_queue import consume

    more: Any = {"batch_size": 500} if setting == "tuned" else {}
    consume("order", _handle, redis_url=url, stream="jobs", group="workers", **more)
