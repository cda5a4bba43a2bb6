"""A neighbour crashes the worker while an entry waits for a retry that is an hour away."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_it_is_not_retried_early(make_pool: Callable[..., Pool]) -> None:
    """It still waits, for the same hour, after three crashes and after a restart of the whole pool."""
    pool = make_pool("""
        def handle(message):
            started(message)
            if message.data["n"] == 3:
                raise Retry("in an hour", delay=3600)
            if message.data["n"] == 6:
                segfault()
            finished(message)
        """)
    ids = pool.push(numbers(10))
    pool.start()
    until(pool.dead, "the dead letter of the one that crashes")
    pool.wait_finished(entry for n, entry in enumerate(ids) if n not in (3, 6))
    until(lambda: pool.pending() == 1, "the acknowledgement of all but one")
    assert pool.started()[ids[3]] == 1
    (attempt, due_in) = pool.waiting()[ids[3]]
    assert attempt == 2
    assert 3000 < due_in <= 3600
    assert pool.delivery_counts() == {ids[3]: 2}
    assert pool.stop() == 0
    assert pool.delivery_counts() == {ids[3]: 1}, "handed back with the attempts that were made"
    ids += pool.push(numbers(3))
    pool.start()
    pool.wait_finished(ids[10:])
    until(lambda: pool.pending() == 1, "the acknowledgement of all but one")
    assert pool.waiting()[ids[3]][0] == 2
    assert pool.started()[ids[3]] == 1
    pool.write("def handle(message):\n    started(message)\n    finished(message)\n")
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids, 1) | {ids[6]: 3}
    counted = pool.counters()
    assert (counted["READ"], counted["HANDLED"], counted["DEAD"]) == (13, 11, 1)
    assert (pool.pending(), pool.unread(), list(pool.dead())) == (1, 0, [ids[6]])
