"""SIGTTOU while the stream is full and handlers run."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until


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
        "--workers", "3", "--max-attempts", "1", "--batch-ms", "200",
    )  # fmt: skip
    ids = pool.push(numbers(2000))
    pool.start()
    pool.wait_count(finished=300)
    closed = pool.worker(2)
    pool.signal(signal.SIGTTOU)

    def taken_over() -> bool:
        if pool.unread() < 500:
            ids.extend(pool.push(numbers(500)))
        return pool.seats().keys() == {0, 1} and not pool.consumers()["test:2"]

    until(taken_over, "the end of slot 2 and of its entries")
    assert closed not in pool.holders()
    assert "took over" in pool.log()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
