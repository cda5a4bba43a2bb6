"""redis-streams: a helper around a consumer group; the loop, the decoding and the acks are the user's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .account import handled, payload

PACKAGES = ("redis-streams", "redis")
SETTINGS = {"default": "batch_size 2, json", "tuned": "batch_size 500, orjson", "quick": "batch_size 1, json"}
MESSAGES = {"default": 5_000, "tuned": 15_000}
QUICK = "quick"
CANNOT = "no process of its own, no retries; a batch waits up to 10 s to be full"


def _client(url: str) -> Any:
    import redis

    return redis.Redis.from_url(url, decode_responses=True, protocol=2)


def send(url: str, numbers: Iterable[int]) -> None:
    """Push one by one."""
    from redis_streams.consumer import Consumer
    from redis_streams.producer import Producer

    client = _client(url)
    Consumer(client, "jobs", "workers")  # makes the group
    producer = Producer(client, "jobs")
    for number in numbers:
        producer.add({"data": json.dumps(payload(number))})


def work(url: str, setting: str) -> None:
    """Consume until killed."""
    from redis_streams.consumer import Consumer

    more: Any = {}
    loads: Any = json.loads
    if setting == "quick":
        more = {"batch_size": 1}
    if setting == "tuned":
        import orjson

        loads, more = orjson.loads, {"batch_size": 500}
    consumer = Consumer(_client(url), "jobs", "workers", **more)
    while True:
        for item in consumer.get_items():
            handled(loads(item.content["data"]))
            consumer.remove_item_from_consumer_group(item.msgid)
