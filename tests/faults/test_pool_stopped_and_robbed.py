"""A whole pool stands still for longer than its lease, others take over, and it wakes up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_hosts import Fleet, lease_left, stopped, term
from support_pool import Pool, numbers, until

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        wait_for(f"go-{message.attempt}")
        finished(message)
"""


def test_who_comes_back_does_no_harm(make_pool: Callable[..., Pool]) -> None:
    """Its leader sweeps with an old epoch, its worker runs an entry of another: neither has an effect.

    The contract allows that the entry was started twice; the first start is cut off when the pool wakes,
    before it can finish, and nothing is charged for that. The second one alone ends it.
    """
    asleep = make_pool(HANDLER, "--instance", "asleep", "--lease", "4")
    awake = make_pool(HANDLER, "--instance", "awake", "--lease", "4")
    fleet = Fleet(awake, asleep)
    asleep.start()
    fleet.wait_leader("asleep")
    (entry,) = asleep.push(numbers(1))
    asleep.wait_started(entry)
    awake.start()
    before = term(asleep)
    with stopped(asleep):
        awake.wait_started(entry, 2)
        assert fleet.owners()[entry] == "awake:0"
        assert not lease_left(asleep)
        assert fleet.leader() == "awake"
    until(lambda: lease_left(asleep) and term(asleep) == before + 1, "a new term of the lease")
    asleep.wait_log("belongs to another")
    awake.release("go-1")
    assert fleet.owners()[entry] == "awake:0", "it was acknowledged under the hands of its new owner"
    awake.release("go-2")
    awake.wait_finished([entry])
    ids = [entry, *awake.push(numbers(1))]
    awake.wait_finished(ids)
    awake.wait_settled()
    fleet.stop()
    assert fleet.leader() == ""
    fleet.assert_exact(ids, restarted={entry: 2})
    assert asleep.counters()["FAILED"] == 0
