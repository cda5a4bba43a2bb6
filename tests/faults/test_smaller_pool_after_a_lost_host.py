"""A pool of one worker takes the place of a larger one whose host was lost with its memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

pytestmark = pytest.mark.every_server


def test_what_its_other_slots_held_can_be_taken(make_pool: Callable[..., Pool]) -> None:
    """It does not wait for slots that do not come back: suspects now, which the leader hands on."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            finished(message)
        """
    )
    ids = pool.push(numbers(6))
    pool.redis.xgroup_create("events", "workers", "0")
    for slot in range(3):
        pool.redis.xreadgroup("workers", f"test:{slot}", {"events": ">"}, 2)
    pool.start()
    pool.wait_log("4 entries were held by slots that this pool does not have")
    for slot in (1, 2):
        assert pool.redis.xpending_range("events", "workers", "-", "+", 10, f"test:{slot}") == []
        assert set(pool.delivery_counts(f"test:{slot}").values()) <= {1}
    assert pool.stop() == 0
    assert set(pool.started()) <= set(ids)
