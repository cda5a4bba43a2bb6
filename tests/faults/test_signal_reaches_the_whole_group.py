"""A signal that reaches the master and all its children: Ctrl-C in a terminal, or a careless stop script."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from support_hosts import lease_left
from support_pool import Pool, numbers

from rsq.ipc.cells import PoolState


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_everybody_drains(make_pool: Callable[..., Pool], number: signal.Signals) -> None:
    """Running handlers finish, nothing is charged, exit code 0."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] >= 18:
                wait_for("go")
            finished(message)
        """,
        "--workers", "2", "--max-attempts", "1", "--batch-max", "1",
    )  # fmt: skip
    ids = pool.push(numbers(20))
    pool.start()
    pool.wait_count(started=20, finished=18)
    os.killpg(pool.pid, number)
    pool.wait_state(PoolState.STOPPING)
    pool.release("go")
    assert pool.wait() == 0
    assert "died" not in pool.log()
    pool.assert_exact(ids)
    assert pool.restarts() == {"CLEAN": 2}


def test_the_lease_is_given_back(make_pool: Callable[..., Pool]) -> None:
    """A pool elsewhere of the same name need not wait until the lease runs out."""
    pool = make_pool("def handle(message): pass", "--workers", "2", "--lease", "600")
    pool.start()
    keeper = pool.keeper()
    os.killpg(pool.pid, signal.SIGTERM)
    assert pool.wait() == 0
    assert pool.keeper() == keeper
    assert not lease_left(pool)
    assert "keeper: its process" not in pool.log()
