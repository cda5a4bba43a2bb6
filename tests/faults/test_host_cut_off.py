"""A host is cut off from Redis for longer than its lease, while the rest of the fleet is not."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest
from support_hosts import Fleet, lease_left, term
from support_pool import Pool, numbers, until
from support_proxy import Proxy

pytestmark = pytest.mark.every_server

# A third of it lies between the stop of a handler and the end of the lease: time to look, and to mend.
LEASE = "5"
HANDLER = """
    def handle(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        if message.data["n"] == 2 and message.attempt == 1:
            wait_for("go")
        if message.attempt == 2:
            wait_for("second")
        finished(message)
"""


def is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


@pytest.fixture
def fleet(make_own_pool: Callable[..., Pool], make_far_pool: Callable[..., Pool]) -> Fleet:
    """Two pools that are not started; the second one reaches Redis through the proxy."""
    near = make_own_pool(HANDLER, "--instance", "near", "--lease", LEASE)
    far = make_far_pool(HANDLER, "--instance", "far", "--lease", LEASE)
    return Fleet(near, far)


def begin(fleet: Fleet) -> list[str]:
    """Let `far` finish two entries and hang in the third, beside `near`, which has nothing to do."""
    near, far = fleet.pools
    far.start()
    ids = far.push(numbers(2))
    far.wait_finished(ids)
    far.wait_settled()
    ids += far.push(numbers(3)[2:])
    far.wait_started(ids[2])
    near.start()
    return ids


@pytest.mark.parametrize("old", [True, False], ids=["comes-late", "is-lost"])
def test_another_takes_over(fleet: Fleet, proxy: Proxy, old: bool) -> None:
    """Not before the handler stands still. After that nobody but the new owner finishes the entry.

    The contract allows that it was started twice. Whether what was sent before the cut still comes to the
    server after it makes no difference.
    """
    near, far = fleet.pools
    ids = begin(fleet)
    worker, before = far.worker(), term(far)
    proxy.stall()
    until(lambda: is_stopped(worker), "a handler that is stopped")
    assert lease_left(far), "others could act before it was stopped"
    assert fleet.owners() == {ids[2]: "far:0"}
    far.release("go")
    near.wait_started(ids[2], 2)
    assert fleet.owners() == {ids[2]: "near:0"}
    proxy.heal(old=old)
    far.wait_log("was given to another instance meanwhile: killed, not charged")
    until(lambda: not psutil.pid_exists(worker) and far.booted(), "a new worker")
    assert term(far) == before + 1
    assert far.finished() == dict.fromkeys(ids[:2], 1)
    assert fleet.owners() == {ids[2]: "near:0"}
    more = far.push(numbers(40)[3:])
    far.wait_finished(more)
    far.release("second")
    near.wait_finished([ids[2]])
    near.wait_settled()
    fleet.stop()
    assert fleet.swept() == {"taken": 1, "suspects": 1}
    assert near.hash("attempts") == dict.fromkeys([*ids, *more], 1) | {ids[2]: 2}
    fleet.assert_exact([*ids, *more], restarted={ids[2]: 2})
    assert far.counters()["FAILED"] == near.counters()["FAILED"] == 0
    assert far.restarts()["SHUTDOWN"] == 1


def test_nobody_took_it(fleet: Fleet, proxy: Proxy) -> None:
    """A short cut: the handler was stopped, its entry is still its own, and it goes on."""
    near, far = fleet.pools
    ids = begin(fleet)
    worker, before = far.worker(), term(far)
    proxy.stall()
    until(lambda: is_stopped(worker), "a handler that is stopped")
    proxy.heal()
    far.wait_log("slot 0: goes on")
    assert far.worker() == worker
    assert far.finished() == dict.fromkeys(ids[:2], 1)
    far.release("go")
    near.wait_settled()
    more = far.push(numbers(40)[3:])
    far.wait_finished(more)
    near.wait_settled()
    assert term(far) <= before + 1
    fleet.stop()
    assert fleet.swept() == {}
    fleet.assert_exact([*ids, *more])


def test_what_it_had_finished(fleet: Fleet, proxy: Proxy) -> None:
    """Finished after the cut and never acknowledged: run again, as another attempt; nobody could know.

    What it comes back with has no effect on what others have in hand.
    """
    near, far = fleet.pools
    ids = begin(fleet)
    proxy.stall()
    far.release("go")
    far.wait_finished(ids)
    near.wait_started(ids[2], 2)
    before = term(far)
    proxy.heal(old=False)
    until(lambda: term(far) == before + 1, "a new term")
    more = far.push(numbers(40)[3:])
    far.wait_finished(more)
    until(lambda: not fleet.owners().keys() & set(more), "the acknowledgement of what it did after the cut")
    assert fleet.owners() == {ids[2]: "near:0"}, "it was acknowledged under the hands of its new owner"
    far.release("second")
    near.wait_settled()
    fleet.stop()
    assert near.hash("attempts") == dict.fromkeys([*ids, *more], 1) | {ids[2]: 2}
    assert near.started() == near.finished() == dict.fromkeys([*ids, *more], 1) | {ids[2]: 2}
    assert near.dead() == {}
