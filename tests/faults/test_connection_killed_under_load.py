"""The connection of a busy worker is killed again and again, while the stream has more than it can take."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_nothing_is_run_twice_or_left(make_pool: Callable[..., Pool]) -> None:
    """Also the audit some seconds later takes no entry for stranded that is just being read."""
    pool = make_pool(
        """
        def handle(message):
            with ledger().pipeline(transaction=True) as pipeline:
                pipeline.hincrby("ledger:started", message.id, 1)
                pipeline.hincrby("ledger:finished", message.id, 1)
                pipeline.execute()
        """,
        "--block-ms", "10", "--batch-max", "50",
    )  # fmt: skip
    ids = pool.push(numbers(40_000))
    pool.start()
    for kills in range(1, 4):
        goal = len(pool.finished()) + 500
        until(lambda goal=goal: len(pool.finished()) >= goal, "more finished entries")  # type: ignore[misc]
        (client,) = [row for row in pool.redis.client_list() if row["name"] == "test:0"]
        pool.redis.client_kill_filter(_id=client["id"])
        until(lambda kills=kills: pool.counters()["RECONNECTS"] >= kills, "a new connection")  # type: ignore[misc]
    until(lambda: len(pool.finished()) >= len(ids), "the end of all", 180)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
