"""SIGTERM and SIGINT reach every process at once, as from a service manager or a terminal."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import pytest
from support_pool import numbers, until
from support_several import Several


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_is_one_drain(make_several: Callable[..., Several], number: int) -> None:
    """What the root says to its masters besides is not a second request: nothing that runs is cut off."""
    pools = make_several(
        """
        handler = "app:slow"
        [[pool]]
        stream = "orders"
        [[pool]]
        stream = "mails"
        """,
        """
        def slow(message):
            started(message)
            wait_for("go")
            finished(message)
        """,
    ).start(ready=2)
    ids = {stream: pools.push(stream, numbers(2)) for stream in ("orders", "mails")}
    for stream in ids:
        until(lambda s=stream: len(pools.started(s)) == 2, "two that run")  # type: ignore[misc]
    for pid in pools.family():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    pools.wait_log("stopping: what runs has 30 s to finish", 2)
    pools.redis.set("go", 1)
    assert pools.wait() == 0
    assert "not waiting any longer" not in pools.log()
    assert "cut off" not in pools.log()
    for stream, entries in ids.items():
        pools.assert_exact(stream, entries)


def test_twice_is_the_end_of_patience(make_several: Callable[..., Several]) -> None:
    """The second TERM of the root ends it for every pool; what was cut off is not charged."""
    pools = make_several(
        """
        handler = "app:slow"
        [[pool]]
        stream = "orders"
        [[pool]]
        stream = "mails"
        """,
        """
        def slow(message):
            started(message)
            while not ledger().exists("go"):
                time.sleep(0.005)
            finished(message)
        """,
    ).start(ready=2)
    ids = {stream: pools.push(stream, numbers(2)) for stream in ("orders", "mails")}
    for stream in ids:
        until(lambda s=stream: len(pools.started(s)) == 2, "two that run")  # type: ignore[misc]
    pools.signal(signal.SIGTERM)
    pools.wait_log("stopping: what runs has 30 s to finish", 2)
    pools.signal(signal.SIGTERM)
    assert pools.wait() == 0
    pools.redis.set("go", 1)
    pools.start("--stop-when-empty")
    assert pools.wait() == 0
    for stream, entries in ids.items():
        pools.assert_exact(stream, entries, restarted=entries)
        assert pools.counters(stream)["FAILED"] == 0
