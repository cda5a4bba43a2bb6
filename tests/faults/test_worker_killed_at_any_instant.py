"""kill -9 of a busy worker, again and again, wherever it is: between two journal marks, in its boot."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until
from support_servers import stand_still

pytestmark = pytest.mark.every_server

KILLS = 40


def test_only_what_ran_at_a_kill_is_run_again(make_pool: Callable[..., Pool]) -> None:
    """Every entry is finished; started more often is only what was running at a kill, once per kill.

    Finished twice is allowed for the same entries: a handler may have returned just before its mark could
    be written. Nothing else may be run again, nothing is dead-lettered, and every charge is in the metrics.
    """
    pool = make_pool(
        """
        def handle(message):
            started(message)
            time.sleep(0.0005)
            finished(message)
        """,
        "--max-attempts", "8", "--batch-ms", "10",
    )  # fmt: skip
    seed = random.randrange(10**9)
    draw = random.Random(seed)
    ids = pool.push(numbers(1500))
    pool.start()
    charged: dict[int, str] = {}
    for _ in range(KILLS):
        kill_somewhere(pool, draw, charged)
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0, pool.log()
    ran = Counter(charged.values())
    for entry, count in pool.started().items():
        assert count <= 1 + ran[entry], f"seed {seed}: {entry} started {count} times:\n{pool.log()}"
    for entry, count in pool.finished().items():
        assert count <= 1 + ran[entry], f"seed {seed}: {entry} finished {count} times:\n{pool.log()}"
    pool.assert_books(ids)
    counted = pool.counters()
    assert counted["FAILED"] == counted["RETRIED"] == len(charged), f"seed {seed}:\n{pool.log()}"


def kill_somewhere(pool: Pool, draw: random.Random, charged: dict[int, str]) -> None:
    """Stop the worker after a random while, see what it runs, and kill it there: place -> entry."""
    goal = min(1500, len(pool.finished()) + draw.choice((0, 0, 10, 25)))
    until(lambda: len(pool.finished()) >= goal, "more finished entries")
    (victim,) = until(pool.holders, "a process in the slot")
    time.sleep(draw.uniform(0, 0.02))  # the fault itself: no instant is better than another
    stand_still(victim)
    batch = pool.batch() if pool.is_booted(victim) and pool.is_running_handler() else None
    if batch and 1 <= batch.started <= len(batch.ids):  # else none has begun, or the last one has ended
        charged[pool.place()] = batch.ids[batch.started - 1].decode()
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in pool.holders(), "the end of the killed process")
