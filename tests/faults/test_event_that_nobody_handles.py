"""Entries whose event the router of this group has no handler for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

ROUTER = """
    from rsq import Router
    handle = Router()
    @handle.on("ours")
    def ours(message):
        started(message)
        finished(message)
"""


def _pool(make_pool: Callable[..., Pool], *options: str) -> tuple[Pool, list[str], list[str]]:
    """Return a pool, ids that it handles, and ids that it does not: one has no event at all."""
    pool = make_pool(ROUTER, *options)
    ours, strange = [], []
    for _ in range(5):
        ours += pool.push(numbers(10), "ours")
        strange += pool.push(numbers(10), "theirs")
    return pool, ours, [*strange, *pool.push(numbers(1))]


def _check(pool: Pool, ours: list[str], **counted: int) -> None:
    assert pool.started() == pool.finished() == dict.fromkeys(ours, 1)
    assert (pool.pending(), pool.unread()) == (0, 0)
    found = pool.counters()
    assert found["HANDLED"] == len(ours)
    assert {name: found[name] for name in counted} == counted


def test_ignored_they_are_acknowledged_and_counted(make_pool: Callable[..., Pool]) -> None:
    pool, ours, strange = _pool(make_pool)
    assert pool.run() == 0, pool.log()
    _check(pool, ours, READ=101, IGNORED=len(strange), FAILED=0, DEAD=0)
    assert pool.dead() == {}
    told = [line.partition("events/workers: ")[2] for line in pool.log().splitlines() if "no handler" in line]
    rest = "its entries are acknowledged, by --unknown-event ignore"
    assert told == [
        f"no handler for event 'theirs': {rest}",
        f"no handler for entries without an event: {rest}",
    ]


def test_of_many_events_a_few_are_told(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(ROUTER)
    for n in range(30):
        pool.push(numbers(2), f"theirs-{n}\n" + "x" * 5000)
    assert pool.run() == 0, pool.log()
    _check(pool, [], IGNORED=60)
    told = [line for line in pool.log().splitlines() if "no handler" in line]
    assert len(told) == 10
    assert max(map(len, told)) < 400


def test_an_envelope_without_events_needs_a_default(make_pool: Callable[..., Pool]) -> None:
    """Else a whole stream would be acknowledged, and no handler ever called."""
    pool = make_pool(ROUTER, "--envelope", "data")
    ids = pool.push(numbers(2))
    code, output = pool.say("app:handle")
    assert code == 78, output
    assert "app:handle needs a .default: with the envelope data no entry has an event" in output
    assert len(output.splitlines()) == 1, output
    pool.write(ROUTER + "    handle.default(ours)\n")
    assert pool.run() == 0, pool.log()
    _check(pool, ids)


def test_a_worker_killed_among_them_acknowledges_them_later(make_pool: Callable[..., Pool]) -> None:
    """Its successor finds in the journal what it ignored."""
    pool = make_pool(
        ROUTER
        + """
    @handle.on("wait")
    def wait(message):
        started(message)
        if message.attempt == 1:
            wait_for("never")
        finished(message)
    """
    )
    ids = pool.push(numbers(3), "ours")
    strange = pool.push(numbers(7), "theirs")
    (culprit,) = pool.push(numbers(1), "wait")
    more = pool.push(numbers(7), "theirs")
    pool.start()
    pool.wait_started(culprit)
    pool.wait_successor(pool.kill_worker())
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids, 1) | {culprit: 2}
    counted = pool.counters()
    assert (counted["IGNORED"], counted["HANDLED"]) == (len(strange) + len(more), len(ids) + 1)
    assert (counted["READ"], counted["FAILED"], counted["DEAD"]) == (18, 1, 0)


def test_dead_lettered_at_once(make_pool: Callable[..., Pool]) -> None:
    pool, ours, strange = _pool(make_pool, "--unknown-event", "dead-letter")
    assert pool.run() == 0, pool.log()
    _check(pool, ours, READ=101, IGNORED=0, FAILED=0, DEAD_UNKNOWN_EVENT=len(strange))
    letters = pool.dead()
    assert letters.keys() == set(strange)
    assert {letter.reason for letter in letters.values()} == {"unknown_event"}
    assert {letter.attempts for letter in letters.values()} == {1}
    assert letters[strange[0]].error == "UnknownEvent: no handler for event 'theirs'"
    assert letters[strange[-1]].error == "UnknownEvent: no handler for entries without an event"
    assert not any(letter.traceback for letter in letters.values())


def test_tried_again_like_any_failure(make_pool: Callable[..., Pool]) -> None:
    pool, ours, strange = _pool(make_pool, "--unknown-event", "retry", "--max-attempts", "2")
    assert pool.run() == 0, pool.log()
    _check(pool, ours, READ=101, IGNORED=0, FAILED=2 * len(strange), DEAD_MAX_ATTEMPTS=len(strange))
    assert pool.dead().keys() == set(strange)


@pytest.mark.parametrize("what", ["drop", ""])
def test_a_word_that_means_nothing(make_pool: Callable[..., Pool], what: str) -> None:
    code, output = make_pool(ROUTER).say("--unknown-event", what, "app:handle")
    assert (code, len(output.splitlines())) == (78, 1)
