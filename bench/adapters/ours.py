"""This project: a whole pool with one worker, as anyone would start it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from .account import buried, handled, payload

PACKAGES = ("redis", "hiredis")
SETTINGS = {"default": "everything on, no option changed", "tuned": "everything on, --batch-max 1000"}
MESSAGES = {"default": 500_000, "tuned": 500_000}
CANNOT = ""


def handle(message: Any) -> None:
    """Count a message."""
    handled(message.data)


def fill(url: str, numbers: Iterable[int]) -> None:
    """Push many at once."""
    from rsq import Producer

    with Producer(url, "events") as producer:
        producer.push_many(payload(number) for number in numbers)


def send(url: str, numbers: Iterable[int]) -> None:
    """Push one by one."""
    from rsq import Producer

    with Producer(url, "events") as producer:
        for number in numbers:
            producer.push(payload(number))


def letters(url: str) -> None:
    """Account for the dead letters, which keep the entry's own fields."""
    import redis

    client: Any = redis.Redis.from_url(url)
    for _, fields in client.xrange("events:dlq"):
        buried(json.loads(fields[b"data"]))


def work(url: str, setting: str) -> None:
    """Become the pool."""
    options = ["--workers", "1", "--redis", url, "--stream", "events", "--runtime-dir", "runtime"]
    options += ["--metrics", "127.0.0.1:0", "--log-level", "warning"]
    options += ["--batch-max", "1000"] if setting == "tuned" else []
    command = [sys.executable, "-P", "-m", "rsq.supervisor.cli", *options, "adapters.ours:handle"]
    os.execv(sys.executable, command)
