"""A handler that never returns."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_hung_handler_is_killed_and_charged(make_pool: Callable[..., Pool]) -> None:
    """After the hard limit, as often as there are attempts; the dead letter says `timeout`."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            while message.data["n"] == 5:
                time.sleep(1)
            finished(message)
        """,
        "--timeout", "2", "--max-attempts", "2",
    )  # fmt: skip
    ids = pool.push(numbers(20))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[5]: 2})
    letter = pool.dead()[ids[5]]
    assert (letter.reason, letter.attempts) == ("timeout", 2)
    counted = pool.counters()
    assert (counted["FAILED"], counted["RETRIED"], counted["DEAD_TIMEOUT"]) == (2, 1, 1)
