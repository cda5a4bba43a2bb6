"""The soft limit of an event that has a circuit breaker."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_it_is_raised_inside_and_counts_as_a_failure(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool("""
        from rsq import Breaker, Router
        handle = Router()
        @handle.on("e", soft_timeout=3, breaker=Breaker(failures=9, window=60, reset=60))
        def work(message):
            started(message)
            if message.attempt == 1:
                time.sleep(600)
            finished(message)
        """)
    ids = pool.push(numbers(1), "e")
    pool.start()
    worker = pool.worker()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted={ids[0]: 2})
