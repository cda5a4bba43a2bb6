"""The server is stopped in order and started again, with its data in the append-only file."""

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
from support_servers import Server

pytestmark = pytest.mark.every_server


def test_finished_entries_are_acked_on_return(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """Two workers wait for it without haste, and nothing is run again."""
    pool = make_own_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    with at_ease(pool):
        own_server.stop()
        pool.release("go")
        pool.wait_log("there is no such socket: is the server running?", times=2)
    own_server.start()
    goes_on(pool, ids)


def test_a_drain_ends_in_time(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """What was finished is acknowledged by the next pool."""
    pool = make_own_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    own_server.stop()
    pool.release("go")
    pool.wait_log("there is no such socket")
    stops_in_time(pool)
    own_server.start()
    goes_on_after_restart(pool, ids)
