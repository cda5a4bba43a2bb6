"""The keeper is killed or stopped while its pool works."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until
from support_servers import stand_still

HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] == 50:
            wait_for("go")
        time.sleep(0.002)
        finished(message)
    """


def kill_keeper(pool: Pool) -> None:
    """Kill it, and wait for a beat of its successor."""
    before, beat = pool.keeper(), pool.keep("UNTIL")
    os.kill(before, signal.SIGKILL)
    until(lambda: pool.keeper() != before and pool.keep("UNTIL") > beat, "another keeper")


def test_a_killed_keeper_is_replaced(make_pool: Callable[..., Pool]) -> None:
    """Again and again: its successor goes on with the lease, nothing is run twice, no term is counted."""
    pool = make_pool(HANDLER, "--lease", "6", "--workers", "2")
    ids = pool.push(numbers(600))
    pool.start()
    for _ in range(5):
        kill_keeper(pool)
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.term() == 1
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert "keeper: its process died" in pool.log()
    assert pool.restarts() == {"CLEAN": 2}


def test_a_keeper_that_hangs_is_replaced_before_the_lease_has_run_out(make_pool: Callable[..., Pool]) -> None:
    """Silent for more than a third of the lease it is killed; the lease was never lost."""
    pool = make_pool(HANDLER, "--lease", "12")
    ids = pool.push(numbers(60))
    pool.start()
    pool.wait_started(ids[50])
    before, beat = pool.keeper(), pool.keep("UNTIL")
    until(lambda: pool.keep("UNTIL") > beat, "a beat")  # else it may be silent for two thirds of the lease
    stand_still(before)
    pool.wait_log("keeper: no sign of life")
    until(lambda: pool.keeper() != before, "another keeper")
    beat = pool.keep("UNTIL")
    until(lambda: pool.keep("UNTIL") > beat, "a beat of the new keeper")
    assert pool.term() == 1
    assert "cannot be trusted" not in pool.log()
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
