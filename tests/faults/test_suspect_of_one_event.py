"""Suspects of a router's events: limits of their own hold for them, and a batch handler gets them alone."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers

from rsq.streams.marks import SUSPECT_MS

HANDLER = """
    from rsq import Router
    handle = Router()
    def note(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        finished(message)
    handle.on("once", max_attempts=1)(note)
    handle.on("often", max_attempts=5)(note)
    @handle.batch("audit", size=10, wait=0.5)
    def audit(messages):
        ledger().rpush("sizes", len(messages))
        for message in messages:
            note(message)
        return messages
    handle.default(note)
"""


def give(pool: Pool, event: str | None, attempts: int) -> str:
    """Give the slot an entry that a lost host had started so often, as a leader does."""
    (entry,) = pool.push(numbers(1), event)
    pool.redis.xreadgroup("workers", "test:0", {"events": ">"})
    pool.redis.xclaim(
        "events", "workers", "test:0", 0, [entry], idle=SUSPECT_MS, retrycount=attempts, justid=True
    )
    return entry


def test_each_has_the_attempts_of_its_event(make_pool: Callable[..., Pool]) -> None:
    """Who has none left is a dead letter and is not started; who has is run, beyond the pool's limit too."""
    pool = make_pool(HANDLER, "--lease", "600", "--max-attempts", "3")
    pool.redis.xgroup_create("events", "workers", "0", mkstream=True)
    pool.redis.xgroup_createconsumer("events", "workers", "test:0")
    once, often = give(pool, "once", 1), give(pool, "often", 4)
    fresh, last = give(pool, None, 2), give(pool, None, 3)
    pool.start()
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.hash("attempts") == {often: 5, fresh: 3}
    assert pool.started() == pool.finished() == {often: 1, fresh: 1}
    letters = pool.dead()
    assert {entry: (letter.reason, letter.attempts) for entry, letter in letters.items()} == {
        once: ("host lost", 1),
        last: ("host lost", 3),
    }


def test_a_batch_handler_gets_it_alone(make_pool: Callable[..., Pool]) -> None:
    """It does not wait for others, nor they for it."""
    pool = make_pool(HANDLER, "--lease", "600", "--max-attempts", "3")
    pool.redis.xgroup_create("events", "workers", "0", mkstream=True)
    pool.redis.xgroup_createconsumer("events", "workers", "test:0")
    suspects = [give(pool, "audit", 1) for _ in range(3)]
    ids = pool.push(numbers(5), "audit")
    pool.start()
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.started() == pool.finished() == dict.fromkeys([*suspects, *ids], 1)
    assert pool.hash("attempts") == dict.fromkeys(suspects, 2) | dict.fromkeys(ids, 1)
    assert pool.dead() == {}
    sizes = [int(size) for size in pool.books.lrange("sizes", 0, -1)]
    assert sizes[:3] == [1, 1, 1]
    assert sum(sizes) == 8
