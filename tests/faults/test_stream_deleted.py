"""Somebody deletes the stream, with entries in hand, and it begins anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_outage import HANDLER, OPTIONS, in_the_middle
from support_pool import Pool

pytestmark = pytest.mark.every_server


def test_what_was_in_hand_is_finished_and_new_entries_come(make_own_pool: Callable[..., Pool]) -> None:
    """Nothing is run twice, for nothing that was there can be read again; the group is created once."""
    pool = make_own_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    pool.redis.delete("events")
    pool.release("go")
    pool.wait_log("group workers of stream events was gone; created again at 0")
    more = pool.push([{"n": n} for n in range(100, 140)])
    pool.wait_finished(more)
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.counters()["GROUPS_RECREATED"] == 1
    assert set(pool.started().values()) == {1}
    assert pool.started() == pool.finished()
    assert set(more) <= pool.started().keys() <= set(ids + more)
    assert pool.counters()["HANDLED"] == len(pool.finished())
