"""A host is gone, with its memory: kill -9 of everything on it, and its runtime directory is empty."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_hosts import Fleet, lease_left
from support_pool import Pool, numbers, until

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        if message.data["n"] < 2 and message.attempt == 1:
            wait_for("never")
        if message.attempt == 2:
            assert ledger().incr("alone:" + str(os.getpid())) == 1, "another entry is in this slot's hand"
            ledger().decr("alone:" + str(os.getpid()))
        finished(message)
"""


def test_another_takes_over_what_it_held(make_pool: Callable[..., Pool]) -> None:
    """What it held was perhaps running: each entry is charged an attempt.

    What it had finished and Redis had been told is not run again; nothing else is charged.
    """
    lost = make_pool(HANDLER, "--instance", "lost", "--lease", "4", "--workers", "2")
    other = make_pool(HANDLER, "--instance", "other", "--lease", "4", "--workers", "2")
    fleet = Fleet(other, lost)
    lost.start()
    ids = lost.push(numbers(2))
    for entry in ids:
        lost.wait_started(entry)
    other.start()
    ids += lost.push(numbers(40)[2:])
    lost.wait_finished(ids[2:])
    until(lambda: fleet.owners().keys() == set(ids[:2]), "all but the two acknowledged")
    fleet.lose(lost)
    other.wait_finished(ids[:2])
    other.wait_settled()
    assert not lease_left(lost)
    assert fleet.leader() == "other"
    assert fleet.swept() == {"taken": 2, "suspects": 2}
    assert other.hash("attempts") == dict.fromkeys(ids, 1) | dict.fromkeys(ids[:2], 2)
    assert other.stop() == 0
    fleet.assert_exact(ids, restarted=dict.fromkeys(ids[:2], 2))


def test_attempts_used_up_end_in_the_dead_letters(make_pool: Callable[..., Pool]) -> None:
    """With one attempt allowed, an entry that may have run is not run again: its letter says why."""
    options = ("--lease", "4", "--max-attempts", "1")
    lost = make_pool(HANDLER, "--instance", "lost", *options)
    other = make_pool(HANDLER, "--instance", "other", *options)
    fleet = Fleet(other, lost)
    lost.start()
    (entry,) = lost.push(numbers(1))
    lost.wait_started(entry)
    other.start()
    fleet.lose(lost)
    until(other.dead, "a dead letter")
    letter = other.dead()[entry]
    assert (letter.reason, letter.attempts, letter.group) == ("host lost", 1, "workers")
    assert dict(letter.fields)[b"data"] == b'{"n":0}'
    other.wait_settled()
    assert other.stop() == 0
    assert fleet.swept() == {"buried": 1}
    fleet.assert_exact([entry], dead={entry: 1})


def test_what_was_handed_back_is_charged_to_nobody(make_pool: Callable[..., Pool]) -> None:
    """A pool that was drained leaves retries behind; others go on with them, their attempts as they were.

    None runs before it is due, however it came there.
    """
    options = ("--lease", "4", "--max-attempts", "2", "--backoff-base", "60", "--backoff-max", "60")
    handler = """
        def handle(message):
            started(message)
            ledger().hset("attempts", message.id, message.attempt)
            if message.attempt == 1:
                raise Retry("later", delay=600 if message.data["n"] % 2 else 0.001)
            finished(message)
        """
    gone = make_pool(handler, "--instance", "gone", *options)
    gone.start()
    ids = gone.push(numbers(20))
    until(lambda: gone.counters()["RETRIED"] == 20, "all failures")
    gone.wait_finished(ids[::2])
    ids = ids[1::2]
    until(lambda: gone.pending() == 10, "the others acknowledged")
    assert gone.stop() == 0
    assert gone.delivery_counts("gone:0") == dict.fromkeys(ids, 1)
    other = make_pool(handler, "--instance", "other", *options)
    fleet = Fleet(other, gone)
    other.start()
    until(lambda: other.waiting().keys() == set(ids), "those that are to wait for ten minutes")
    assert {attempt for attempt, _ in other.waiting().values()} == {2}
    assert min(due for _, due in other.waiting().values()) > 300
    assert fleet.swept() == {"taken": 10}
    assert other.stop() == 0
    assert other.delivery_counts("other:0") == dict.fromkeys(ids, 1)
    assert {other.started()[entry] for entry in ids} == {1}
