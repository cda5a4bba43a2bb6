"""Somebody destroys the consumer group, while entries are in hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_outage import HANDLER, OPTIONS, in_the_middle
from support_pool import Pool

pytestmark = pytest.mark.every_server


def test_it_begins_anew_where_it_was_told_to(make_own_pool: Callable[..., Pool]) -> None:
    """What the server knew of the group is gone with it: a group that starts at 0 is given everything again.

    This is where the contract allows duplicates: each entry that was handled before, or was in hand, is
    run once more, and no more than once. It is created once, counted once and said once.
    """
    pool = make_own_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    pool.redis.xgroup_destroy("events", "workers")
    pool.release("go")
    pool.wait_log("group workers of stream events was gone; created again at 0")
    pool.wait_settled()
    more = pool.push([{"n": n} for n in range(100, 110)])
    pool.wait_finished(ids + more)
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.log().count("created again at 0") == 1
    assert pool.counters()["GROUPS_RECREATED"] == 1
    assert pool.started() == pool.finished()
    assert pool.started().keys() == set(ids + more)
    assert {pool.started()[entry] for entry in ids} <= {1, 2}
    assert {pool.started()[entry] for entry in more} == {1}
    assert (pool.pending(), pool.unread()) == (0, 0)
    counted = pool.counters()
    assert counted["READ"] == counted["HANDLED"] == sum(pool.started().values())


def test_only_what_is_new_with_a_start_at_the_end(make_own_pool: Callable[..., Pool]) -> None:
    """With `--start-id $` nothing finished is run again; what nobody had read is skipped, as asked for."""
    pool = make_own_pool(HANDLER, *OPTIONS, "--start-id", "$")
    pool.start()
    ids = pool.push([{"n": n} for n in range(20, 60)])
    pool.wait_started(ids[0])
    pool.redis.xgroup_destroy("events", "workers")
    read = set(pool.batch().ids)
    pool.release("go")
    pool.wait_log("group workers of stream events was gone; created again at $")
    more = pool.push([{"n": n} for n in range(100, 110)])
    pool.wait_finished(more)
    pool.wait_settled()
    assert pool.stop() == 0
    assert set(pool.started().values()) == {1}
    assert {entry.decode() for entry in read} | set(more) <= pool.started().keys()
