"""kill -9 of a worker in the middle of a batch of 500 entries."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until
from support_servers import stand_still

from rsq.ipc.cells import D


def handler_s(pool: Pool) -> float:
    """Return what the slot takes for the time that an entry needs."""
    segment = pool.segment()
    try:
        return segment.slot(0).desk.real[D.HANDLER_S]
    finally:
        segment.close()


def test_done_are_acked_and_waiting_ones_keep_their_attempt(make_pool: Callable[..., Pool]) -> None:
    """Of the 500, those before the culprit are not run again, those behind it are run as attempt 1."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            ledger().hset("attempts", message.id, message.attempt)
            if message.data["n"] == 250 and message.attempt == 1:
                wait_for("never")
            finished(message)
        """,
        "--batch-max", "500", "--batch-ms", "60000", "--lease", "600",
    )  # fmt: skip
    pool.start()
    first: list[str] = []
    while not first or handler_s(pool) > 0.1:  # 500 must not be too many for a batch
        first += pool.push([{"n": -1}])
        pool.wait_finished(first)
        pool.wait_settled()
    # Who takes a slot over reads at once as much as its predecessor had come to.
    stand_still(pool.pid)
    killed = pool.kill_worker()
    until(lambda: not pool.holders(), "a slot without a process")
    ids = pool.push(numbers(1500))
    os.kill(pool.pid, signal.SIGCONT)
    pool.wait_successor(killed)
    pool.wait_started(ids[250])
    batch = pool.batch()
    place = batch.ids.index(ids[250].encode())
    assert (len(batch.ids), place, batch.started) == (500, 250, 251)
    pool.wait_successor(pool.kill_worker())
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([*first, *ids], restarted={ids[250]: 2})
    assert pool.hash("attempts") == dict.fromkeys([*first, *ids], 1) | {ids[250]: 2}
    assert pool.counters()["FAILED"] == 1
