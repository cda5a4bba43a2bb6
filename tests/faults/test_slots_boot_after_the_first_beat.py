"""A pool's first report is made while its slots still boot."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, until

from rsq.streams import fleet, keys


def test_others_soon_hear_that_they_are_there(make_pool: Callable[..., Pool]) -> None:
    """With a long lease the next beat is minutes away, and nothing is handed to slots that are down."""
    pool = make_pool(
        """
        def handle(message):
            finished(message)
        """,
        "--lease", "3600", "--workers", "2",
    )  # fmt: skip
    pool.start()

    def states() -> dict[int, str]:
        raw = pool.redis.hget(keys.instances("events", "workers"), "test")
        report = fleet.report(raw) if isinstance(raw, bytes) else None
        return report.slots if report else {}

    until(lambda: states() == {0: fleet.IDLE, 1: fleet.IDLE}, "a report of two idle slots")
    assert pool.stop() == 0
