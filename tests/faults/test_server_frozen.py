"""The server freezes, with all connections open: it answers nobody, and what it was sent it does later."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers
from support_servers import Server

pytestmark = pytest.mark.every_server


def test_nothing_finished_is_run_again(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """After the longest time an answer may take, a line counts as dead: one worker goes on with a new one.

    The other is killed then: it had asked for a dead letter, which is written when the server thaws.
    Nobody has heard so, but it is written once and counted once.
    """
    pool = make_own_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] < 2:
                wait_for("frozen")
            if message.data["n"] == 1:
                raise Reject("never")
            finished(message)
        """,
        "--workers", "2", "--block-ms", "100", "--lease", "600",
    )  # fmt: skip
    pool.start()
    ids = pool.push(numbers(2))
    for entry in ids:
        pool.wait_started(entry)
    slot = 0 if ids[1] in pool.delivery_counts("test:0") else 1
    other = pool.worker(1 - slot)
    with own_server.frozen():
        pool.books.set("frozen", 1)
        pool.wait_log(f"entry {ids[1]} cannot be dead-lettered")
        pool.wait_log(f"consumer test:{1 - slot}: no reply in time")
        killed = pool.kill_worker(slot)
    pool.wait_successor(killed, slot)
    ids += pool.push(numbers(20)[2:])
    pool.wait_settled()
    assert pool.worker(1 - slot) == other, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids, dead={ids[1]: 1})
    assert pool.counters(1 - slot)["RECONNECTS"] == 1
