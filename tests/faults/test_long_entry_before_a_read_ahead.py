"""A long entry with a read ahead of it under way, and nobody idle: what comes twice is started once."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until

LONG = 100
HANDLER = f"""
def handle(message):
    started(message)
    if message.data["n"] == {LONG}:
        wait_for("go")
    elif message.data["n"] > {LONG} and message.attempt == 1:
        raise ValueError("not yet")
    finished(message)
"""


def test_a_failed_one_keeps_its_attempts(make_pool: Callable[..., Pool]) -> None:
    """What was read ahead rests, is taken into hand and fails; then the reply of the read is looked at."""
    pool = make_pool(HANDLER, "--batch-max", "20", "--batch-ms", "60000", "--backoff-base", "3")
    ids = pool.push(numbers(200))
    pool.start()
    pool.wait_started(ids[LONG])
    batch = [entry.decode() for entry in pool.batch().ids]
    until(lambda: set(resting(pool)).difference(batch), "entries that were read ahead and rest")
    pool.release("go")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted=dict.fromkeys(ids[LONG + 1 :], 2))


def resting(pool: Pool) -> list[str]:
    """Return which entries rest with the only slot."""
    return [row["message_id"].decode() for row in pool.resting()]
