"""The server is out of memory: it takes nothing that needs more."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_hosts import lease_left
from support_outage import HANDLER, OPTIONS, at_ease, goes_on, in_the_middle
from support_pool import Pool, numbers, until

from rsq.streams import keys

pytestmark = pytest.mark.every_server


def test_what_is_there_is_read_and_acknowledged(make_own_pool: Callable[..., Pool]) -> None:
    """A worker only takes away: it needs no memory to go on, also with a new process."""
    pool = make_own_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    pool.redis.config_set("maxmemory", 1)
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    pool.wait_successor(pool.kill_worker())
    pool.redis.config_set("maxmemory", 0)
    goes_on(pool, ids)


def test_a_group_that_is_gone_is_created_when_there_is_room(make_own_pool: Callable[..., Pool]) -> None:
    """Until then workers wait without haste and say what is wrong.

    The group begins anew where the stream does, so its entries are deleted here: nothing is run twice.
    """
    pool = make_own_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    with at_ease(pool):
        pool.redis.config_set("maxmemory", 1)
        pool.redis.delete("events")
        pool.wait_log("the server is out of memory: raise its maxmemory or make room", times=2)
    pool.redis.config_set("maxmemory", 0)
    pool.wait_log("was gone; created again")
    goes_on(pool, ids)
    assert pool.counters()["GROUPS_RECREATED"] == 1


def test_a_pool_starts_and_makes_room(make_own_pool: Callable[..., Pool]) -> None:
    """Its lease, the lead and its report are a few bytes; without them nobody could acknowledge and trim.

    The same when the lease was lost meanwhile, and after an orderly stop.
    """
    pool = make_own_pool(HANDLER, *OPTIONS, "--lease", "3", "--trim", "acked")
    pool.release("go")
    ids = pool.push(numbers(40))
    pool.redis.xgroup_create("events", "workers", "0")
    pool.redis.config_set("maxmemory", 1)
    for _ in range(2):
        pool.start()
        pool.wait_finished(ids)
        pool.wait_settled()
        until(lambda: pool.redis.xlen("events") <= 1, "trimming")
        before = pool.term()
        pool.redis.delete(keys.lease("events", "workers", "test"))
        until(lambda before=before: pool.term() > before, "a new term")  # type: ignore[misc]
        until(lambda: lease_left(pool), "the lease")
        assert pool.stop() == 0
        assert not lease_left(pool)
        pool.redis.config_set("maxmemory", 0)
        ids += pool.push(numbers(40))
        pool.redis.config_set("maxmemory", 1)
    pool.redis.config_set("maxmemory", 0)
    pool.start()
    goes_on(pool, ids)
