"""The server dies while a handler runs, and comes back with its data."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until
from support_servers import Server

pytestmark = pytest.mark.every_server


def test_finished_entries_are_acked_on_return(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """What was finished before and during the outage is not run again, what waited behind it is run once."""
    pool = make_own_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] % 10 == 5:
                wait_for(f"go-{message.data['n']}")
            finished(message)
        """,
        "--batch-ms", "5000", "--block-ms", "200",
    )  # fmt: skip
    ids = pool.push(numbers(30))
    pool.start()
    worker = pool.worker()
    for n in (5, 15, 25):
        pool.wait_started(ids[n])
        own_server.kill()
        pool.books.set(f"go-{n}", 1)
        pool.wait_finished(ids[: n + 1])
        errors = pool.counters()["REDIS_ERRORS"]
        until(lambda errors=errors: pool.counters()["REDIS_ERRORS"] > errors, "an outage that is seen")  # type: ignore[misc]
        assert not pool.is_connected()
        own_server.start()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids)
    # A server that still loads its data takes a connection and then refuses: each time costs one more.
    counted = pool.counters()["RECONNECTS"]
    assert counted == 3 or (counted > 3 and "the server is still loading its data" in pool.log())
