"""SIGTERM while entries wait for their next attempt."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_they_are_handed_back_with_the_attempts_they_had(make_pool: Callable[..., Pool]) -> None:
    """The pool does not wait for them; a restart goes on with the next attempt, none is lost or repeated."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            ledger().rpush(f"attempts {message.id}", message.attempt)
            n = message.data["n"]
            if n < 10 and message.attempt <= 1 + n % 2:
                raise Retry(delay=0 if message.attempt == 1 and n % 2 else 3600)
            finished(message)
        """,
        "--max-attempts", "5",
    )  # fmt: skip
    ids = pool.push(numbers(20))
    pool.start()
    pool.wait_finished(ids[10:])
    until(lambda: pool.counters()["FAILED"] == 15, "all failures")
    until(lambda: pool.pending() == 10, "acknowledgements")
    assert pool.stop() == 0
    assert "handed back 10 entries" in pool.log()
    assert pool.delivery_counts() == {entry: 1 + n % 2 for n, entry in enumerate(ids[:10])}
    attempts = {entry: 2 + n % 2 for n, entry in enumerate(ids[:10])}
    assert {entry: attempt for entry, (attempt, _) in pool.waiting().items()} == attempts
    pool.redis.xclaim("events", "workers", "elsewhere", 0, ids[:10], justid=True)  # type: ignore[arg-type]
    pool.redis.xclaim("events", "workers", "test:0", 0, ids[:10], justid=True)  # type: ignore[arg-type]
    for path in pool.runtime.iterdir():
        path.unlink()  # the host's memory is gone, and with it how long they were to wait
    pool.start()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids, 1) | attempts
    assert pool.finished() == dict.fromkeys(ids, 1)
    for entry in ids:
        run = [int(attempt) for attempt in pool.books.lrange(f"attempts {entry}", 0, -1)]
        assert run == list(range(1, attempts.get(entry, 1) + 1))
