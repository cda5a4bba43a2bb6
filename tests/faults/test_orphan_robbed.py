"""The master is killed; its worker, at an entry, stands still for longer than the lease and is robbed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from support_hosts import Fleet
from support_pool import Pool, until
from support_servers import stand_still

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        if message.attempt == 1:
            wait_for("go")
        finished(message)
"""


@pytest.mark.parametrize("attempts", ["2", "5"])
def test_nobody_is_charged_for_the_kill(make_pool: Callable[..., Pool], attempts: str) -> None:
    """Its keeper kills the worker when the lease is back; the next pool counts no failure, no dead letter."""
    options = ("--lease", "3", "--max-attempts", attempts)
    asleep = make_pool(HANDLER, "--instance", "asleep", *options)
    awake = make_pool(HANDLER, "--instance", "awake", *options)
    fleet = Fleet(awake, asleep)
    asleep.start()
    (entry,) = asleep.push([0])
    asleep.wait_started(entry)
    awake.start()
    keeper, worker = asleep.keeper(), asleep.worker()
    asleep.kill_master()
    stand_still(keeper, worker)
    awake.wait_finished([entry])
    awake.wait_settled()
    os.kill(keeper, signal.SIGCONT)
    until(lambda: "runs an entry that belongs to another instance: killed" in asleep.log(), "the kill")
    asleep.wait_free()
    asleep.start()
    fleet.stop()
    fleet.assert_exact([entry], restarted={entry: 2})
    assert asleep.counters()["FAILED"] == 0
    assert "failed" not in asleep.log()
