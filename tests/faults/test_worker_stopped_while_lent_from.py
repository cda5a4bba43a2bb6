"""A worker is stopped at any instant, also between two entries, while the keeper lends from its batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from support_lending import OPTIONS, SOMETIMES, in_bursts, lent, stopped
from support_pool import Pool


def test_every_entry_runs_once(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(SOMETIMES, "--workers", "4", *OPTIONS)
    pool.start()
    turn = count()

    def act() -> None:
        """What it has behind the entry it is at is done by the others while it is stopped."""
        slot = next(turn) % 4
        stopped(pool.worker(slot), lambda: pool.pending() <= len(pool.delivery_counts(f"test:{slot}")))

    ids = in_bursts(pool, act)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert lent(pool)
