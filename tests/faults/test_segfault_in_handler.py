"""A message that segfaults its worker: it alone is charged, to the last attempt."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_only_the_culprit_is_charged(make_pool: Callable[..., Pool]) -> None:
    """500 entries in one batch, the one in the middle kills its process each time."""
    pool = make_pool("""
        def handle(message):
            started(message)
            if message.data["n"] == 250:
                segfault()
            finished(message)
        """)
    ids = pool.push(numbers(500))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[250]: 3})
    letter = pool.dead()[ids[250]]
    assert (letter.reason, letter.attempts) == ("crash: SIGSEGV", 3)
    counted = pool.counters()
    assert (counted["FAILED"], counted["RETRIED"], counted["DEAD_CRASH"]) == (3, 2, 1)
