"""SIGTTOU of a slot in which failed entries wait for their next attempt."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import count

from support_pool import Pool, numbers, until


def test_they_wait_on_in_another_slot(make_pool: Callable[..., Pool]) -> None:
    """With the attempt and the delay they had: a slot that closes cuts no long delay short."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] < 0:
                finished(message)
                wait_for(f"go {-message.data['n']}")
            elif message.attempt == 1:
                raise Retry(delay=3600 * (message.data["n"] % 2))
            else:
                finished(message)
        """,
        "--workers", "2", "--batch-max", "1", "--lease", "600",
    )  # fmt: skip
    pool.start()
    ids = []
    for turn in count(1):  # until slot 0 is the busy one
        ids += pool.push([{"n": -turn}])
        pool.wait_finished(ids)
        if pool.is_running_handler(0):
            break
        pool.release(f"go {turn}")
    waiting = pool.push([{"n": 2 * n + 1} for n in range(5)])
    until(lambda: pool.waiting(1).keys() == set(waiting), "five failures in slot 1")
    ids += waiting + pool.push(numbers(1))
    pool.wait_finished(ids[-1:])
    pool.signal(signal.SIGTTOU)
    until(lambda: pool.seats().keys() == {0}, "the end of slot 1")
    assert set(pool.delivery_counts("test:1").values()) == {1}
    pool.release(f"go {turn}")
    until(lambda: pool.delivery_counts("test:0") == dict.fromkeys(waiting, 2), "the five in slot 0")
    assert pool.waiting(0).keys() == set(waiting)
    assert {attempt for attempt, _ in pool.waiting(0).values()} == {2}
    assert min(due for _, due in pool.waiting(0).values()) > 3000
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids, 1) | {ids[-1]: 2}
