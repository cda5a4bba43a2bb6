"""While a pool is down, another host takes and finishes the many entries that waited in it for a retry."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

from rsq.ipc.journal import JOURNAL_MAX, WAITING_MAX

pytestmark = pytest.mark.every_server


def test_their_places_are_free_again(make_pool: Callable[..., Pool]) -> None:
    """A pool that starts again knows that they are gone, and reads on however many had waited."""
    pool = make_pool("""
        def handle(message):
            started(message)
            if not ledger().exists("go"):
                raise Retry(delay=3600)
            finished(message)
        """)
    ids = pool.push(numbers(WAITING_MAX))
    pool.start()
    until(
        lambda: WAITING_MAX - len(pool.waiting()) < 2 * JOURNAL_MAX, "so many failures that no more is read"
    )
    assert pool.stop() == 0
    gone = list(pool.started())
    assert set(gone) == pool.waiting().keys() < set(ids)
    pool.redis.xclaim("events", "workers", "elsewhere", 0, gone)  # type: ignore[arg-type]
    pool.redis.xack("events", "workers", *gone)
    pool.release("go")
    pool.start()
    pool.wait_finished(set(ids) - set(gone))
    pool.wait_settled()
    assert pool.waiting() == {}
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids, 1)
