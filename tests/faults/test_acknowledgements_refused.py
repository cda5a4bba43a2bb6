"""The server takes every command but acknowledgements: somebody has cut down the rights of the user."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_outage import (
    HANDLER,
    OPTIONS,
    at_ease,
    goes_on,
    goes_on_after_restart,
    in_the_middle,
    stops_in_time,
)
from support_pool import Pool

pytestmark = pytest.mark.every_server

ADVICE = "the server does not allow it to this user: grant it with ACL SETUSER"


def test_workers_keep_what_they_owe_and_read_no_more(make_own_pool: Callable[..., Pool]) -> None:
    """A pending list that only grows would help nobody; nothing is run again when it is allowed again."""
    pool = make_own_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    with at_ease(pool):
        pool.redis.acl_setuser("default", enabled=True, commands=["-xack"])
        pool.release("go")
        pool.wait_log(ADVICE)
        for first in range(200, 300, 10):  # until the other worker owes something too
            ids += pool.push([{"n": n} for n in range(first, first + 10)])
        pool.wait_log(ADVICE, times=2)
    ids += pool.push([{"n": 300}])
    assert len(pool.started()) < len(ids)
    pool.redis.acl_setuser("default", enabled=True, commands=["+xack"])
    goes_on(pool, ids)


def test_a_drain_ends_in_time(make_own_pool: Callable[..., Pool]) -> None:
    """What was finished is acknowledged by the next pool."""
    pool = make_own_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    pool.redis.acl_setuser("default", enabled=True, commands=["-xack"])
    pool.release("go")
    pool.wait_log(ADVICE)
    stops_in_time(pool)
    pool.redis.acl_setuser("default", enabled=True, commands=["+xack"])
    goes_on_after_restart(pool, ids)
