"""Two pools of one instance name on one host."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] == 5:
            wait_for("go")
        finished(message)
    """


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_the_second_waits_and_takes_over(make_pool: Callable[..., Pool], end: str) -> None:
    """It says so in one line and reads nothing; when the first ends, it goes on from where that was."""
    first = make_pool(HANDLER)
    second = make_pool(HANDLER)
    second.options += ["--runtime-dir", str(first.runtime)]
    second.runtime = first.runtime
    ids = first.push(numbers(10))
    first.start()
    first.wait_started(ids[5])
    second.start(ready=False)
    words = "instance test of events/workers already runs on this host: waiting for it to end"
    second.wait_log(words)
    assert first.holders() == [first.worker()]
    assert "ready: " not in second.log()
    if end == "stopped":
        first.release("go")
        assert first.stop() == 0
    else:
        first.kill_master()
        second.wait_log("of a former master, still works in it: waiting")
        first.release("go")
    second.wait_log("ready: 1 workers")
    assert second.log().count(words) == 1
    second.wait_finished(ids)
    second.wait_settled()
    assert second.stop() == 0
    second.assert_exact(ids)


def test_the_waiting_one_can_be_stopped(make_pool: Callable[..., Pool]) -> None:
    """It ends at once with exit code 0 and leaves the first one alone."""
    first = make_pool(HANDLER)
    second = make_pool(HANDLER)
    second.options += ["--runtime-dir", str(first.runtime)]
    first.start()
    worker = first.worker()
    second.start(ready=False)
    second.wait_log("already runs on this host")
    assert second.stop() == 0
    ids = first.push(numbers(5))
    first.wait_finished(ids)
    first.wait_settled()
    assert first.worker() == worker
    assert first.stop() == 0
    first.assert_exact(ids)
