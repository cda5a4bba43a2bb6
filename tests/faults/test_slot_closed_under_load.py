"""SIGTTOU while the stream is full and handlers run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until
from support_servers import stand_still

from rsq.ipc.cells import P


def wanted(pool: Pool) -> int:
    """Return how many workers the master wants; it has told those beyond to go."""
    segment = pool.segment()
    try:
        return segment.pool.view[P.WORKERS]
    finally:
        segment.close()


def test_its_entries_go_on_in_another_slot_uncharged(make_pool: Callable[..., Pool]) -> None:
    """The highest slot drains; slot 0 takes over at once what it hands back, however busy slot 0 is."""
    pool = make_pool(
        """
        def handle(message):
            assert message.attempt == 1
            started(message)
            finished(message)
            time.sleep(0.001)
        """,
        "--workers", "3", "--max-attempts", "1", "--batch-ms", "200", "--lease", "600",
    )  # fmt: skip
    ids = pool.push(numbers(2000))
    pool.start()
    pool.wait_count(finished=300)
    closed, keeper = pool.worker(2), pool.keeper()
    stand_still(keeper)  # else what slot 2 has in hand might be lent before it hands that back

    def caught() -> bool:
        if pool.unread() < 500:
            ids.extend(pool.push(numbers(500)))
        stand_still(closed)
        batch = pool.batch(2)
        if pool.is_running_handler(2) and len(batch.ids) - batch.started > 2:
            return True
        os.kill(closed, signal.SIGCONT)
        return False

    until(caught, "slot 2 in the middle of a batch")
    pool.signal(signal.SIGTTOU)
    until(lambda: wanted(pool) == 2, "a master that has told it")
    os.kill(closed, signal.SIGCONT)

    def taken_over() -> bool:
        if pool.unread() < 500:
            ids.extend(pool.push(numbers(500)))
        return pool.seats().keys() == {0, 1} and not pool.consumers()["test:2"]

    until(taken_over, "the end of slot 2 and of its entries")
    os.kill(keeper, signal.SIGCONT)
    assert closed not in pool.holders()
    pool.wait_log("took over")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
