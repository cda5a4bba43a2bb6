"""One entry in a thousand crashes its process at every attempt, among 20,000, with four workers."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_twenty_dead_letters_and_no_innocent_run_twice(make_pool: Callable[..., Pool]) -> None:
    """Sixty crashes: 20 culprits three times each, 19,980 others once."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] % 1000 == 500:
                segfault()
            finished(message)
        """,
        "--workers", "4",
    )  # fmt: skip
    ids = pool.push(numbers(20_000))
    assert pool.start("--stop-when-empty", ready=False).wait(120) == 0, pool.log()
    pool.assert_exact(ids, dead=dict.fromkeys(ids[500::1000], 3))
    assert {letter.reason for letter in pool.dead().values()} == {"crash: SIGSEGV"}
    counted = pool.counters()
    assert (counted["FAILED"], counted["RETRIED"], counted["DEAD_CRASH"]) == (60, 40, 20)
