"""Dramatiq on Redis lists: a supervisor, worker processes, threads in each."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from .account import handled, payload

PACKAGES = ("dramatiq", "redis")
SETTINGS = {
    "default": "one process, 8 threads, its middleware",
    "tuned": "one process, 1 thread, prefetch 1000, no middleware",
}
MESSAGES = {"default": 5_000, "tuned": 10_000}
CANNOT = ""


def broker(url: str = "", setting: str = "") -> Any:
    """Make the broker and the actor; the command line calls this in the worker process."""
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker

    tuned = (setting or os.environ["RSQ_BENCH_SETTING"]) == "tuned"
    made = RedisBroker(url=url or os.environ["RSQ_BENCH_URL"], middleware=[] if tuned else None)
    dramatiq.set_broker(made)
    return dramatiq.actor(handled, actor_name="handled", broker=made)


def send(url: str, numbers: Iterable[int]) -> None:
    """Push one by one."""
    actor = broker(url, "default")
    for number in numbers:
        actor.send(payload(number))


def work(url: str, setting: str) -> None:
    """Be its command line."""
    os.environ |= {"RSQ_BENCH_URL": url, "RSQ_BENCH_SETTING": setting}
    if setting == "tuned":
        os.environ["dramatiq_queue_prefetch"] = "1000"  # noqa: SIM112
    from dramatiq.cli import main, make_argument_parser

    threads = "1" if setting == "tuned" else "8"
    words = ["adapters.dramatiq:broker", "--processes", "1", "--threads", threads]
    main(make_argument_parser().parse_args(words))
