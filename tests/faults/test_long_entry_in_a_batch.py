"""One entry of a batch takes long: those behind it go to idle neighbours, and each runs once."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers

LONG = 100
HANDLER = f"""
def handle(message):
    started(message)
    if message.data["n"] == {LONG}:
        wait_for("go")
    finished(message)
"""
OPTIONS = ("--batch-max", "200", "--batch-ms", "1000")


def behind_a_long_one(pool: Pool) -> list[str]:
    """Bring a pool of one worker to where it has run for long, with many entries behind it in its batch."""
    ids = pool.push(numbers(250))
    pool.start()
    pool.wait_started(ids[LONG])
    batch = pool.batch()
    assert len(batch.ids) - batch.ids.index(ids[LONG].encode()) > 10
    return ids


def test_the_others_finish_while_it_runs(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(HANDLER, *OPTIONS)
    ids = behind_a_long_one(pool)
    for _ in range(3):
        pool.signal(signal.SIGTTIN)
    pool.wait_finished(ids[:LONG] + ids[LONG + 1 :])
    assert ids[LONG] not in pool.finished()
    pool.release("go")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
