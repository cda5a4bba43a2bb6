"""A handler that runs longer than the pool may take to stop."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

from rsq.ipc.cells import PoolState

HANDLER = """
    def handle(message):
        started(message)
        assert message.attempt == 1, "it was charged"
        if message.data["n"] == 5:
            wait_for("go")
        finished(message)
    """


@pytest.mark.parametrize("way", ["drain timeout", "second TERM", "QUIT"])
def test_it_is_cut_off_and_not_charged(make_pool: Callable[..., Pool], way: str) -> None:
    """By the limit, by impatience, or at once: exit code 0, and the next pool runs it with attempt 1."""
    patience = "0.5" if way == "drain timeout" else "300"
    pool = make_pool(HANDLER, "--max-attempts", "1", "--drain-timeout", patience)
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_started(ids[5])
    pool.signal(signal.SIGQUIT if way == "QUIT" else signal.SIGTERM)
    if way == "second TERM":
        pool.wait_state(PoolState.STOPPING)
        pool.signal(signal.SIGTERM)
    assert pool.wait() == 0
    assert f"entry {ids[5]} is cut off, it is not charged for that" in pool.log()
    pool.release("go")
    assert pool.run("--drain-timeout", "300") == 0
    pool.assert_exact(ids, restarted={ids[5]: 2})
    assert pool.counters()["FAILED"] == 0
    assert pool.restarts()["SHUTDOWN"] == 1
