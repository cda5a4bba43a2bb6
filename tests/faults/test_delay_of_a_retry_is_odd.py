"""Delays that handlers give to Retry: all that mean a time, and some that mean none."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers

HANDLER = """
    from datetime import timedelta
    from decimal import Decimal
    from fractions import Fraction
    class Later(Retry):
        def __init__(self, delay):
            super().__init__("busy")
            self.delay = delay
    DELAYS = [
        Decimal("0.01"), Fraction(1, 100), timedelta(milliseconds=10), 0,
        10**400, float("inf"), float("nan"), -1, "soon", True, Decimal("sNaN"), 1e300,
    ]
    def handle(message):
        started(message)
        if message.attempt == 1:
            which = message.data["n"]
            raise Retry("busy", delay=DELAYS[which]) if which < 12 else Later(DELAYS[which - 12])
        finished(message)
    """


def test_the_entry_is_tried_again_and_nothing_else_happens(make_pool: Callable[..., Pool]) -> None:
    """After the delay, or after the backoff with a line that says why; in the same process."""
    pool = make_pool(HANDLER)
    ids = pool.push(numbers(24))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, restarted=dict.fromkeys(ids, 2))
    assert pool.counters()["FAILED"] == len(ids)
    assert pool.log().count(" s is not possible") >= 16
    assert pool.log().count("is not possible; the backoff applies)") == 8
    assert "its process" not in pool.log()
