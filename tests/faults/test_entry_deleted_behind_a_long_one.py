"""An entry is deleted from the stream while it waits, fetched already, behind one that takes long."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

pytestmark = pytest.mark.every_server

LONG = 100
HANDLER = f"""
def handle(message):
    started(message)
    if message.data["n"] == {LONG}:
        wait_for("go")
    finished(message)
"""


def test_it_is_handled_all_the_same(make_pool: Callable[..., Pool]) -> None:
    """Its worker was asked to make sure of what it has not started, and has the payload in memory."""
    pool = make_pool(HANDLER, "--batch-max", "200", "--batch-ms", "60000")
    ids = pool.push(numbers(250))
    pool.start()
    pool.wait_started(ids[LONG])
    assert ids[LONG + 1].encode() in pool.batch().ids, "not fetched together"
    pool.redis.xdel("events", ids[LONG + 1])
    until(lambda: resting(pool), "a worker that was asked")
    pool.release("go")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def resting(pool: Pool) -> int:
    """Return how many entries rest with the only slot."""
    return len(pool.resting())
