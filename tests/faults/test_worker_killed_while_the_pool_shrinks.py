"""kill -9 of workers while the pool becomes smaller: one that stays, and one that is on its way out."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until

from rsq.ipc.cells import DeskState
from rsq.streams.orders import Order, Orders


def running(pool: Pool, slot: int) -> str:
    """The id of the entry that runs in a slot."""
    segment = pool.segment()
    try:
        place = segment.slot(slot).journal.place()
        assert place is not None
        return place[2].decode()
    finally:
        segment.close()


def test_only_what_they_ran_is_charged(make_pool: Callable[..., Pool]) -> None:
    """Each of the two runs once more; the others finish what they run, and go or stay as they were told."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            wait_for("go")
            finished(message)
        """,
        "--workers", "2-6",
    )  # fmt: skip
    orders = Orders(pool.redis, "events", "workers")
    pool.start()
    orders.scale("test", 6, Order("ann", 1.0))
    until(lambda: pool.booted().keys() == set(range(6)), "a pool of six")
    ids = pool.push(numbers(60))
    pool.wait_count(started=6)
    until(lambda: all(pool.is_running_handler(slot) for slot in range(6)), "six handlers")
    orders.scale("test", 2, Order("ann", 2.0))
    pool.wait_log("workers: 6 to 2, by order")
    victims = {slot: pool.worker(slot) for slot in (1, 4)}
    charged = {running(pool, slot): 2 for slot in victims}
    for pid in victims.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not set(victims.values()) & set(pool.holders()), "the end of both")
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    until(lambda: pool.seats().keys() == {0, 1}, "a pool of two")
    assert pool.desk_state(0) is not DeskState.DRAINING
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted=charged)
    assert pool.counters()["FAILED"] == 2
