"""One entry of a batch takes long: those behind it go to idle neighbours, and each runs once."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_lending import COUNT, LONG, OPTIONS, WAITS, behind_a_long_one, lent
from support_pool import Pool, numbers, until


def test_the_others_finish_while_it_runs(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(WAITS, *OPTIONS)
    ids = behind_a_long_one(pool)
    for _ in range(3):
        pool.signal(signal.SIGTTIN)
    pool.wait_finished(ids[:LONG] + ids[LONG + 1 :])
    assert ids[LONG] not in pool.finished()
    assert pool.batch().ids.index(ids[LONG].encode()) == pool.batch().started - 1, "it does not run any more"
    pool.release("go")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert lent(pool) >= COUNT - LONG - 1  # what the next one did not come to either was lent on
    assert pool.hash("attempts") == dict.fromkeys(ids, 1)
    assert pool.counters()["FAILED"] == 0


def test_the_owner_does_what_nobody_took(make_pool: Callable[..., Pool]) -> None:
    """With nobody idle for long, what waits is let rest; its owner takes it back."""
    pool = make_pool(WAITS, *OPTIONS)
    ids = behind_a_long_one(pool)

    behind = len(pool.batch().ids) - pool.batch().started
    until(lambda: len(pool.resting()) >= behind, "entries that rest")
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert lent(pool) == 0
    assert pool.hash("attempts") == dict.fromkeys(ids, 1)


def test_what_others_finished_and_was_trimmed_is_not_lost(make_pool: Callable[..., Pool]) -> None:
    """The owner finds it neither pending nor in the stream."""
    pool = make_pool(WAITS, *OPTIONS)
    ids = behind_a_long_one(pool)
    for _ in range(3):
        pool.signal(signal.SIGTTIN)
    pool.wait_finished(ids[:LONG] + ids[LONG + 1 :])
    until(lambda: pool.pending() <= len(pool.batch().ids), "acknowledgements")
    pending = pool.delivery_counts().keys()
    pool.redis.xdel("events", *(set(ids[LONG + 1 :]) - pending))
    pool.release("go")
    more = pool.push(numbers(5))
    pool.wait_finished(more)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids + more)
