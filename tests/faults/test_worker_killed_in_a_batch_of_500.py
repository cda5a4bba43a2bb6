"""kill -9 of a worker in the middle of a batch of 500 entries."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_done_are_acked_and_waiting_ones_keep_their_attempt(make_pool: Callable[..., Pool]) -> None:
    """Of the 500, those before the culprit are not run again, those behind it are run as attempt 1."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            ledger().hset("attempts", message.id, message.attempt)
            if message.data["n"] == 400 and message.attempt == 1:
                wait_for("never")
            finished(message)
        """,
        "--batch-max", "500", "--batch-ms", "10000",
    )  # fmt: skip
    ids = pool.push(numbers(1500))
    pool.start()
    pool.wait_started(ids[400])
    batch = pool.batch()
    place = batch.ids.index(ids[400].encode())
    assert (len(batch.ids), batch.started) == (500, place + 1)
    assert 100 < place < 400, "the culprit is not in the middle"
    assert {entry.decode() for entry in batch.ids[:place]} <= pool.delivery_counts().keys(), "acked already"
    pool.wait_successor(pool.kill_worker())
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted={ids[400]: 2})
    assert pool.hash("attempts") == dict.fromkeys(ids, 1) | {ids[400]: 2}
    assert pool.counters()["FAILED"] == 1
