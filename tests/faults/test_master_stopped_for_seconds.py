"""SIGSTOP of the master, for longer than the time limit of a handler."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from support_pool import Pool, numbers, until
from support_servers import stand_still

from rsq.ipc.cells import P


def test_nobody_is_killed_for_the_masters_own_sleep(make_pool: Callable[..., Pool]) -> None:
    """A handler that runs across the master's sleep, and is over in time, lives."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] == 3:
                wait_for("go on")
            finished(message)
        """,
        "--timeout", "7",
    )  # fmt: skip
    ids = pool.push(numbers(6))
    pool.start()
    pool.wait_started(ids[3])
    worker = pool.worker()
    segment, now = pool.segment(), time.monotonic()
    until(lambda: segment.pool.real[P.HEARTBEAT] > now, "the master to have seen the handler run")
    stand_still(pool.pid)
    pool.redis.blpop(["nothing"], timeout=8)  # the sleep is what is tested: longer than the limit
    pool.signal(signal.SIGCONT)
    pool.wait_log("supervision slept")
    pool.redis.set("go on", 1)
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.worker() == worker
    assert pool.stop() == 0
    pool.assert_exact(ids)
