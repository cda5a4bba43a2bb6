"""Huey on a Redis list: one process, threads as workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .account import handled, payload

PACKAGES = ("huey", "redis")
SETTINGS = {
    "default": "one thread",
    "tuned": "one thread, no results, no periodic tasks, no log of each task",
}
MESSAGES = {"default": 4_000, "tuned": 6_000}
CANNOT = "nothing restarts it; what a killed worker held is lost"


def _app(url: str, setting: str) -> Any:
    from huey import RedisHuey

    app = RedisHuey("jobs", url=url, results=setting != "tuned")
    return app, app.task(name="handled")(handled)


def send(url: str, numbers: Iterable[int]) -> None:
    """Push one by one."""
    _, task = _app(url, "tuned")
    for number in numbers:
        task(payload(number))


def work(url: str, setting: str) -> None:
    """Do what its command line does."""
    from huey.consumer_options import ConsumerConfig

    app, _ = _app(url, setting)
    more: Any = {"verbose": False, "periodic": False} if setting == "tuned" else {}
    config = ConsumerConfig(**more)
    config.setup_logger()
    app.create_consumer(**config.values).run()
