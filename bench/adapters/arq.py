"""arq: one process, an asyncio loop over a sorted set; it wants an old redis-py, so it lives alone."""

from __future__ import annotations

import asyncio
import logging.config
from collections.abc import Iterable
from typing import Any

from .account import handled, payload

PACKAGES = ("arq", "redis", "hiredis")
ALONE = True
SETTINGS = {
    "default": "10 jobs at once",
    "tuned": "100 jobs at once, results not kept, no log of each job, polls every 10 ms",
}
MESSAGES = {"default": 1_000, "tuned": 3_000}
QUICK = "tuned"
CANNOT = "nothing restarts it"


async def handle(context: dict[Any, Any], data: dict[str, Any]) -> None:
    """Count a message."""
    handled(data)


async def _push(url: str, numbers: Iterable[int]) -> None:
    from arq import create_pool
    from arq.connections import RedisSettings

    pool = await create_pool(RedisSettings.from_dsn(url))
    for number in numbers:
        await pool.enqueue_job("handle", payload(number))
    await pool.aclose()


def send(url: str, numbers: Iterable[int]) -> None:
    """Push one by one."""
    asyncio.run(_push(url, numbers))


def work(url: str, setting: str) -> None:
    """Do what its command line does."""
    from arq.connections import RedisSettings
    from arq.logs import default_log_config
    from arq.worker import Worker

    more: Any = {}
    if setting == "tuned":
        more = {"max_jobs": 100, "keep_result": 0, "log_results": False, "poll_delay": 0.01}
    else:
        logging.config.dictConfig(default_log_config(verbose=False))
    Worker([handle], redis_settings=RedisSettings.from_dsn(url), **more).run()
