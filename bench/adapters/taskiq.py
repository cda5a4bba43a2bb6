"""taskiq with taskiq-redis: a supervisor, worker processes with an asyncio loop in each."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any

from .account import handled, payload

PACKAGES = ("taskiq-redis", "taskiq", "redis")
SETTINGS = {
    "default": "RedisStreamBroker, one process",
    "tuned": "RedisStreamBroker, one process, xread_count 1000, orjson, no parsing of arguments, no log",
}
MESSAGES = {"default": 3_000, "tuned": 4_000}
CANNOT = ""


async def handle(data: dict[str, Any]) -> None:
    """Count a message."""
    handled(data)


def broker() -> Any:
    """Make the broker and the task; the command line calls this in the worker process."""
    from taskiq.serializers import ORJSONSerializer
    from taskiq_redis import RedisStreamBroker

    url = os.environ["RSQ_BENCH_URL"]
    if os.environ["RSQ_BENCH_SETTING"] == "tuned":
        made = RedisStreamBroker(url, xread_count=1000).with_serializer(ORJSONSerializer())
    else:
        made = RedisStreamBroker(url)
    made.register_task(handle, "handle")
    return made


async def _push(numbers: Iterable[int]) -> None:
    made = broker()
    await made.startup()
    task = made.find_task("handle")
    for number in numbers:
        await task.kiq(payload(number))
    await made.shutdown()


def send(url: str, numbers: Iterable[int]) -> None:
    """Push one by one."""
    os.environ |= {"RSQ_BENCH_URL": url, "RSQ_BENCH_SETTING": "default"}
    asyncio.run(_push(numbers))


def work(url: str, setting: str) -> None:
    """Be its command line."""
    os.environ |= {"RSQ_BENCH_URL": url, "RSQ_BENCH_SETTING": setting}
    from taskiq.cli.worker.args import LogLevel, WorkerArgs
    from taskiq.cli.worker.run import run_worker

    more: Any = {"no_parse": True, "log_level": LogLevel.WARNING} if setting == "tuned" else {}
    run_worker(WorkerArgs("adapters.taskiq:broker", [], workers=1, **more))
