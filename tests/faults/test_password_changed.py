"""Somebody changes the server's password, and connections end: new ones are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
from support_pool import Pool, until

pytestmark = pytest.mark.every_server

PASSWORD = "correct-horse"


@contextmanager
def password_changed(pool: Pool) -> Iterator[None]:
    pool.redis.ping()
    pool.redis.config_set("requirepass", PASSWORD)
    for row in pool.redis.client_list():
        if row["name"].startswith("test:"):
            pool.redis.client_kill_filter(_id=row["id"])
    yield
    pool.redis.config_set("requirepass", "")


def told(pool: Pool) -> int:
    """Return how often workers have said what is wrong; after a while the keeper says it too."""
    lines = [line for line in pool.log().splitlines() if "the server wants a password" in line]
    return len([line for line in lines if "keeper of " not in line])


def test_finished_entries_are_acked_on_return(make_own_pool: Callable[..., Pool]) -> None:
    """Workers keep trying and say why in vain; the pool does not end, as it would at its start."""
    pool = make_own_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    with password_changed(pool), at_ease(pool):
        pool.release("go")
        until(lambda: told(pool) >= 2, "a word of each")
    goes_on(pool, ids)


def test_a_worker_that_dies_meanwhile_is_replaced(make_own_pool: Callable[..., Pool]) -> None:
    """Its successor waits as well: a pool that has worked does not give up on its configuration."""
    pool = make_own_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    with password_changed(pool):
        pool.release("go")
        until(lambda: told(pool) >= 1, "its word")
        old = pool.kill_worker()
        until(lambda: pool.seats().get(0, old) != old, "a successor")
        until(lambda: told(pool) >= 2, "the word of its successor")
    goes_on(pool, ids)


def test_a_drain_ends_in_time(make_own_pool: Callable[..., Pool]) -> None:
    """What was finished is acknowledged by the next pool."""
    pool = make_own_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    with password_changed(pool):
        pool.release("go")
        pool.wait_log("the server wants a password")
        stops_in_time(pool)
    goes_on_after_restart(pool, ids)
