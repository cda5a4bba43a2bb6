"""Two pools of one instance name on two hosts: each has a runtime directory of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] == 5:
            wait_for("go")
        finished(message)
    """
WORDS = "instance test of events/workers runs already, on "


@pytest.mark.parametrize(("end", "lease"), [("stopped", "600"), ("killed", "4")])
def test_the_second_waits_and_takes_over(make_pool: Callable[..., Pool], end: str, lease: str) -> None:
    """It says so in a line and is not ready; it goes on when the first has ended or its lease has run out.

    What runs on the lost host is run again: nobody can ask its memory.
    """
    first = make_pool(HANDLER, "--lease", lease)
    second = make_pool(HANDLER, "--lease", lease)
    ids = first.push(numbers(10))
    first.start()
    first.wait_started(ids[5])
    second.start(ready=False)
    second.wait_log(WORDS)
    assert f"pid {first.pid}" in second.log()
    assert "ready: " not in second.log()
    if end == "stopped":
        first.release("go")
        first.wait_finished(ids)
        first.wait_settled()
        assert first.stop() == 0
    else:
        family = [first.keeper(), first.worker()]
        first.kill_master()
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        first.release("go")
    second.wait_log("ready: 1 workers")
    assert second.log().count(WORDS) == 1
    second.wait_finished(ids)
    second.wait_settled()
    assert second.stop() == 0
    if end == "stopped":
        second_run = {}
    else:  # what was finished and not acknowledged when the host was lost is run again too: nobody can know
        second_run = {entry: 2 for entry in ids[:5] if second.started()[entry] == 2}
        assert second.started()[ids[5]] == 2
    assert second.finished() == dict.fromkeys(ids, 1) | second_run
    assert second.started() == dict.fromkeys(ids, 1) | second_run | ({} if end == "stopped" else {ids[5]: 2})


def test_the_waiting_one_can_be_stopped(make_pool: Callable[..., Pool]) -> None:
    """It ends at once with exit code 0 and takes nothing from the first one."""
    first, second = make_pool(HANDLER, "--lease", "600"), make_pool(HANDLER, "--lease", "600")
    first.start()
    second.start(ready=False)
    second.wait_log(WORDS)
    assert second.stop() == 0
    ids = first.push(numbers(5))
    first.wait_finished(ids)
    first.wait_settled()
    assert first.term() == 1
    assert first.stop() == 0
    first.assert_exact(ids)


def test_a_restart_on_the_same_host_goes_on_at_once(make_pool: Callable[..., Pool]) -> None:
    """After kill -9 of everything the new pool has the token of the old one: it waits for no lease."""
    pool = make_pool(HANDLER, "--lease", "600")
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_started(ids[5])
    family = [pool.keeper(), pool.worker()]
    pool.kill_master()
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    pool.release("go")
    pool.start()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.term() == 1
    assert pool.stop() == 0
    assert pool.redis.keys("rsq:*instance:*") == []
