"""XDEL of an entry that waits for its next attempt."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

pytestmark = pytest.mark.every_server


def test_counted_as_lost_and_no_longer_pending(make_pool: Callable[..., Pool]) -> None:
    """Its payload is gone, so no attempt can follow and no dead letter be written: both say so."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] in (3, 6):
                wait_for("go")
                raise Retry("later", delay=0.2)
            finished(message)
        """,
        "--max-attempts", "2",
    )  # fmt: skip
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_started(ids[3])
    pool.redis.xdel("events", ids[3])
    pool.books.set("go", 1)
    pool.wait_started(ids[6], times=2)
    pool.wait_settled()
    until(lambda: pool.counters()["LOST"], "the count of what was lost")
    assert pool.stop() == 0
    pool.assert_exact(ids, dead={ids[6]: 2}, lost={ids[3]: 1})
    assert ids[3] in pool.log()
    assert pool.waiting() == {}
