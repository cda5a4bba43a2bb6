"""What pushing many messages costs the producer, beside redis-py's pipeline.

python -m rsq.bench.push push_many|xadd|bare URL MESSAGES BATCH
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson
import redis

from ..streams.producer import Producer
from ..streams.pushing import BATCH
from . import rig
from .answer import Answer, Figure, Scale, Table, number, ratios

QUESTION = "What does pushing many messages cost, beside a pipeline of redis-py?"
METHOD = (
    "Dictionaries that encode to 100 bytes of JSON, written by orjson on all sides. redis-py: XADD in a"
    " pipeline without a transaction, hiredis, by `xadd` and by `execute_command`, which is cheaper; its"
    " pipelines have the size of a batch of `push_many`, and its best setting is the cheapest of several"
    " sizes. Each side is a process of its own, pinned; CPU counts from the first connection on. The"
    " number of entries in the stream is checked."
)
MESSAGES = 100_000
SIZES = (100, 500, 2000)


def _items(count: int) -> Iterator[dict[str, Any]]:
    return (rig.PAYLOAD | {"order": 10_000_000 + number} for number in range(count))


def push_many(url: str, messages: int, batch: int) -> int:
    """Ours."""
    with Producer(url, rig.STREAM) as producer:
        return producer.push_many(_items(messages), batch=batch)


def xadd(url: str, messages: int, batch: int) -> int:
    """redis-py as its pages show it."""
    client: Any = redis.Redis.from_url(url)
    pipe, pushed = client.pipeline(transaction=False), 0
    for item in _items(messages):
        pipe.xadd(rig.STREAM, {"data": orjson.dumps(item)})
        if len(pipe) >= batch:
            pushed += len(pipe.execute())
    return pushed + len(pipe.execute())


def bare(url: str, messages: int, batch: int) -> int:
    """redis-py without what its commands do for their arguments."""
    client: Any = redis.Redis.from_url(url)
    pipe, pushed = client.pipeline(transaction=False), 0
    for item in _items(messages):
        pipe.execute_command("XADD", rig.STREAM, "*", "data", orjson.dumps(item))
        if len(pipe) >= batch:
            pushed += len(pipe.execute())
    return pushed + len(pipe.execute())


_SIDES = {"push_many": push_many, "xadd": xadd, "bare": bare}


def _cost(url: str, side: str, messages: int, batch: int) -> rig.Cost:
    client: Any = redis.Redis.from_url(url)
    client.flushall()
    cost = rig.measured(["-m", "rsq.bench.push", side, url, str(messages), str(batch)])
    if cost.messages != messages or client.xlen(rig.STREAM) != messages:
        raise rig.Void(f"{client.xlen(rig.STREAM)} entries of {messages} pushed")
    return cost


def answer(scale: Scale) -> Answer:
    """Measure ours with its batch, and both ways of redis-py with several sizes, in turn."""
    messages = scale.messages(MESSAGES)
    found: dict[tuple[str, int], list[float]] = {}
    with rig.server() as url:
        for _ in range(scale.runs):
            for side in _SIDES:
                for size in SIZES:
                    found.setdefault((side, size), []).append(_cost(url, side, messages, size).us)
    ours = found["push_many", BATCH]
    best = [
        min(values[run] for (side, _), values in found.items() if side != "push_many")
        for run in range(scale.runs)
    ]
    rows = tuple(
        (side, str(size), number(sorted(values)[len(values) // 2])) for (side, size), values in found.items()
    )
    return Answer(
        "push",
        QUESTION,
        METHOD,
        (
            Figure("push_many against redis-py's XADD in pipelines of its size",
                   ratios(ours, found["xadd", BATCH]), "times", at_most=1.1),
            Figure("push_many against the best of redis-py", ratios(ours, best), "times", at_most=1.1),
            Figure("push_many", tuple(ours), "us of CPU a message"),
        ),
        (Table("CPU by way and size", ("way", "messages a round trip", "us a message"), rows),),
    )  # fmt: skip


if __name__ == "__main__":
    began, idle = time.monotonic(), rig.cpu_s()
    done = _SIDES[sys.argv[1]](sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps({"messages": done, "cpu_s": rig.cpu_s() - idle, "wall_s": time.monotonic() - began}))
