"""The server is killed, and takes seconds to load its data when it is back."""

from __future__ import annotations

import os
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
from support_pool import Pool, until
from support_servers import Server

pytestmark = pytest.mark.every_server

KEYS = 900  # of 64 KB; above 64 MB the server begins to write its file anew by itself


def kill_and_load(pool: Pool, server: Server, key_us: int) -> None:
    """Bring the server back so that loading takes some seconds, in which it answers -LOADING."""
    admin = server.client()
    with admin.pipeline(transaction=False) as pipeline:
        for n in range(KEYS):
            pipeline.set(f"filler:{n}", os.urandom(1 << 16))
        pipeline.execute()
    admin.bgrewriteaof()

    def written() -> bool:
        told = admin.info("persistence")
        return not (told["aof_rewrite_in_progress"] or told["aof_rewrite_scheduled"])

    until(written, "an append-only file that begins with a snapshot")
    load(server, key_us)


def load(server: Server, key_us: int) -> None:
    """Kill the server and bring it back; loading takes a time for each key."""
    server.kill()
    server.options = {"key-load-delay": str(key_us)}  # between two looks at its clients it loads 2 MB
    server.start(ready=False)


def loaded(server: Server) -> None:
    """Wait for the end of it."""
    admin = server.client()
    until(lambda: not admin.info("persistence")["loading"], "the end of loading")


def test_finished_entries_are_acked_on_return(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """Workers are connected at once and wait until commands are taken."""
    pool = make_own_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    with at_ease(pool):
        kill_and_load(pool, own_server, 12_000)  # twice as long as it takes them to see enough of it
        pool.release("go")
        pool.wait_log("the server is still loading its data: wait for it", times=2)
    loaded(own_server)
    goes_on(pool, ids)


def test_a_drain_ends_in_time(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """What was finished is acknowledged by the next pool, which also waits for the data."""
    pool = make_own_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    kill_and_load(pool, own_server, 40_000)  # longer than the drain tries, on any machine
    pool.release("go")
    pool.wait_log("the server is still loading its data")
    stops_in_time(pool)
    load(own_server, 3_000)
    goes_on_after_restart(pool, ids)
