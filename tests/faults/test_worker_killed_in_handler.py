"""kill -9 of a worker while its handler runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_pool import Pool, numbers


def test_entry_gets_one_attempt_and_the_rest_none(make_pool: Callable[..., Pool]) -> None:
    """The running entry is tried again; those done before and waiting behind it are run once."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] == 5 and message.attempt == 1:
                wait_for("never")
            finished(message)
        """,
        "--max-attempts",
        "2",
    )
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_started(ids[5])
    os.kill(pool.worker(), signal.SIGKILL)
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted={ids[5]: 2})
    assert pool.counters()["FAILED"] == 1
