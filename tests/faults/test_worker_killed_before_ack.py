"""kill -9 of a worker whose handlers have returned, but whose acknowledgement has not reached the server."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until
from support_servers import Server, stand_still

pytestmark = pytest.mark.every_server


def test_finished_entries_are_not_run_again(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """The journal knows what is finished: the successor acknowledges it, and runs nothing of it.

    The server is frozen before the last handler returns and never thaws: what was sent to it is lost.
    """
    handler = """
        def handle(message):
            started(message)
            if message.data["n"] == 19:
                wait_for("frozen")
            finished(message)
        """
    pool = make_own_pool(handler, "--batch-ms", "60000")  # else a slow machine reads one by one
    ids = pool.push(numbers(20))
    pool.start()
    pool.wait_started(ids[-1])
    assert pool.pending() > 1, "the batch has one entry: nothing but the last could be run again"
    stand_still(own_server.pid)
    pool.books.set("frozen", 1)
    pool.wait_finished(ids)
    until(lambda: not pool.is_running_handler(), "the end of the last handler")
    killed = pool.kill_worker()
    own_server.kill()
    own_server.start()
    pool.wait_successor(killed)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert pool.counters()["FAILED"] == 0
