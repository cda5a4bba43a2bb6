"""SIGTTIN while the stream is full, and again after a slot was closed."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_a_new_worker_takes_part(make_pool: Callable[..., Pool]) -> None:
    """It gets the next name; a slot that was closed opens again with the name and the numbers it had."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            finished(message)
            time.sleep(0.001)
        """
    )
    ids = pool.push(numbers(500))
    pool.start()
    for signal_, seats in (
        (signal.SIGTTIN, 2),
        (signal.SIGTTOU, 1),
        (signal.SIGTTIN, 2),
        (signal.SIGTTIN, 3),
    ):
        pool.signal(signal_)

        def settled(wanted: int = seats) -> bool:
            if pool.unread() < 200:
                ids.extend(pool.push(numbers(200)))
            return [pool.is_booted(pid, slot) for slot, pid in pool.seats().items()] == [True] * wanted

        until(settled, f"{seats} workers")
    assert pool.consumers().keys() == {"test:0", "test:1", "test:2"}
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
