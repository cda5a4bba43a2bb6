"""A soft limit that is as short as a batch, and a handler that exceeds it every hundredth time."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_it_hits_slow_handlers_and_nothing_else(make_pool: Callable[..., Pool]) -> None:
    """2,000 entries: every slow one gets it in its handler, no quick one does, nor any code of ours."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            while message.data["n"] % 100 == 50 and message.attempt == 1:
                time.sleep(0.001)
            finished(message)
        """,
        "--soft-timeout", "0.02", "--batch-ms", "20",
    )  # fmt: skip
    ids = pool.push(numbers(2000))
    pool.start()
    worker = pool.worker()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted=dict.fromkeys(ids[50::100], 2))
    assert (pool.counters()["FAILED"], pool.counters()["RETRIED"]) == (20, 20)
    assert "Traceback" not in pool.log()
