"""Celery on Redis lists: a main process and prefork children."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .account import handled, payload

PACKAGES = ("celery", "kombu", "redis")
SETTINGS = {
    "default": "prefork, one child",
    "tuned": "prefork, one child, prefetch 50, no results, gossip, mingling, heartbeat, remote control",
}
MESSAGES = {"default": 1_000, "tuned": 1_500}
CANNOT = ""


def _app(url: str, setting: str) -> Any:
    from celery import Celery

    app = Celery("bench", broker=url)
    app.conf.broker_connection_retry_on_startup = True
    if setting == "tuned":
        app.conf.update(
            worker_prefetch_multiplier=50, task_ignore_result=True, worker_enable_remote_control=False
        )
    return app, app.task(handled, name="handled")


def send(url: str, numbers: Iterable[int]) -> None:
    """Push one by one."""
    _, task = _app(url, "default")
    for number in numbers:
        task.delay(payload(number))


def work(url: str, setting: str) -> None:
    """Be its command line."""
    app, _ = _app(url, setting)
    more = ["--without-gossip", "--without-mingle", "--without-heartbeat"] if setting == "tuned" else []
    app.worker_main(["worker", "--concurrency", "1", *more])
