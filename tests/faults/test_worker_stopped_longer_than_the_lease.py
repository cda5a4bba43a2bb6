"""A worker stands still (SIGSTOP) for several leases while its pool lives: its handler was only slow."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_hosts import Fleet
from support_pool import Pool, numbers, until
from support_servers import stand_still

HANDLER = """
    def handle(message):
        started(message)
        wait_for("go")
        finished(message)
"""


def test_it_is_not_robbed(make_pool: Callable[..., Pool]) -> None:
    """The keeper renews the entry's lease, whatever the process does; nobody else gets it."""
    pool = make_pool(HANDLER, "--instance", "slow", "--lease", "3", "--timeout", "0")
    other = make_pool(HANDLER, "--instance", "other", "--lease", "3")
    fleet = Fleet(other, pool)
    pool.start()
    (entry,) = pool.push(numbers(1))
    pool.wait_started(entry)
    other.start()
    worker = pool.worker()
    stand_still(worker)
    try:
        idle = 0
        for _ in range(3):  # each time its idle time falls, it was renewed
            before = idle

            def renewed() -> bool:
                nonlocal before, idle
                (row,) = pool.redis.xpending_range("events", "workers", "-", "+", 1)
                before, idle = max(before, idle), int(row["time_since_delivered"])
                return idle < before

            until(renewed, "a renewal")
            idle = 0
        assert fleet.owners() == {entry: "slow:0"}
    finally:
        os.kill(worker, signal.SIGCONT)
    pool.release("go")
    pool.wait_settled()
    assert pool.worker() == worker
    fleet.stop()
    assert fleet.swept() == {}
    fleet.assert_exact([entry])
