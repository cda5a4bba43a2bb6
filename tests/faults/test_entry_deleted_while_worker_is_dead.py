"""XDEL of entries that a killed worker held: the one it ran, one it had finished, one it had not started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until
from support_servers import stand_still

pytestmark = pytest.mark.every_server


def test_only_unfinished_ones_are_lost(make_pool: Callable[..., Pool]) -> None:
    """The master is stopped meanwhile, so that nobody takes the slot over before they are deleted."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] == 7 and message.attempt == 1:
                wait_for("never")
            finished(message)
        """,
        "--batch-ms", "60000",
    )  # fmt: skip
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_started(ids[7])
    assert set(ids[6:]) <= pool.delivery_counts().keys(), "not one batch"
    stand_still(pool.pid)
    killed = pool.kill_worker()
    until(lambda: not pool.holders(), "a slot without a process")
    pool.redis.xdel("events", ids[6], ids[7], ids[8])
    os.kill(pool.pid, signal.SIGCONT)
    pool.wait_successor(killed)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, lost={ids[7]: 1, ids[8]: 0})
    assert pool.counters()["FAILED"] == 1
