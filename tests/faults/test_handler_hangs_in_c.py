"""A handler that never returns from a C function and holds the interpreter's lock there."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_hung_handler_is_killed_and_charged(make_pool: Callable[..., Pool]) -> None:
    """No Python runs in that process any more, not even a signal handler: the master ends it."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] == 5:
                ctypes.PyDLL(None).sleep(1000)
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
