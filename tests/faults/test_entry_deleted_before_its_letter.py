"""XDEL of an entry while its last attempt runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

pytestmark = pytest.mark.every_server


def test_counted_as_lost_and_no_longer_pending(make_pool: Callable[..., Pool]) -> None:
    """There is nothing left to put into a dead letter: it is acknowledged, logged, counted as lost."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] == 3:
                wait_for("go")
                raise ValueError
            finished(message)
        """,
        "--max-attempts", "1",
    )  # fmt: skip
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_started(ids[3])
    pool.redis.xdel("events", ids[3])
    pool.books.set("go", 1)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, lost={ids[3]: 1})
    assert ids[3] in pool.log()
