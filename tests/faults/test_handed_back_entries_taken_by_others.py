"""While a pool is down, another host takes and finishes the many entries that waited in it for a retry."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_their_places_are_free_again(make_pool: Callable[..., Pool]) -> None:
    """A pool that starts again knows that they are gone, and reads on however many had waited."""
    pool = make_pool("""
        def handle(message):
            started(message)
            if message.data["n"] < 2100 and message.attempt == 1:
                raise Retry(delay=3600)
            finished(message)
        """)
    ids = pool.push(numbers(2100))
    pool.start()
    until(lambda: pool.counters()["RETRIED"] == len(ids), "a failure of each")
    assert pool.stop() == 0
    pool.redis.xclaim("events", "workers", "elsewhere", 0, ids)  # type: ignore[arg-type]
    pool.redis.xack("events", "workers", *ids)
    ids += pool.push([{"n": 2100}])
    pool.start()
    pool.wait_finished(ids[2100:])
    pool.wait_settled()
    assert pool.waiting() == {}
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids, 1)
