"""The server answers nobody for longer than the lease, while a handler runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import psutil
import pytest
from support_pool import Pool, numbers, until
from support_servers import Server, stand_still

from rsq.ipc.fence import boot_time

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] == 2:
            wait_for("go")
        finished(message)
    """
# Where a lease must not be lost for anything else, nor a keeper be taken for hung that was only slow.
LEASE_S = 6


def is_stopped(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def wait_stopped(worker: int, lease_s: float) -> None:
    """Wait until it is stopped for good, while the server answers nobody.

    An answer from before that may be read late; it is trusted for a part of a lease after the question.
    """
    over = boot_time() + lease_s + 1
    until(lambda: boot_time() > over and is_stopped(worker), "a stopped worker")


def test_the_handler_is_stopped_and_goes_on(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """The key of the lease may be gone: others may act, so nobody here does. Then it goes on as it was."""
    pool = make_own_pool(HANDLER, "--lease", "1", "--workers", "2", "--timeout", "30")
    ids = pool.push(numbers(6))
    pool.start()
    pool.wait_started(ids[2])
    busy = 0 if ids[2] in pool.delivery_counts("test:0") else 1
    worker = pool.worker(busy)
    with own_server.frozen():
        pool.wait_log("is stopped: the instance lease cannot be trusted")
        wait_stopped(worker, 1)
        pool.release("go")
        assert boot_time() > pool.keep("UNTIL") + 1, "the lease is not over"
        assert pool.finished().get(ids[2]) is None
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.worker(busy) == worker
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_a_pool_can_be_stopped_while_its_handler_is(
    make_own_pool: Callable[..., Pool], own_server: Server
) -> None:
    """The stopped worker is killed at the deadline; its entry is not charged and run again."""
    pool = make_own_pool(HANDLER, "--lease", "1", "--drain-timeout", "1")
    ids = pool.push(numbers(6))
    pool.start()
    pool.wait_started(ids[2])
    worker = pool.worker()
    with own_server.frozen():
        wait_stopped(worker, 1)
        pool.release("go")
        assert pool.stop() == 0
        assert not psutil.pid_exists(worker)
    pool.start()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted={ids[2]: 2})
    assert pool.counters()["FAILED"] == 0


def test_an_entry_that_was_given_to_another_is_not_finished(
    make_own_pool: Callable[..., Pool], own_server: Server
) -> None:
    """When the lease is back the entry is somebody else's: its handler never goes on, nobody is charged."""
    pool = make_own_pool(HANDLER, "--lease", str(LEASE_S))
    ids = pool.push(numbers(6))
    pool.start()
    pool.wait_started(ids[2])
    worker = pool.worker()
    keeper = pool.keeper()
    with own_server.frozen():
        wait_stopped(worker, LEASE_S)
        # Nobody replaces the keeper, and it does not come back before the other has the entry.
        stand_still(pool.pid, keeper)
    pool.release("go")
    until(lambda: pool.redis.keys("rsq:*instance:*") == [], "the end of the lease")
    pool.redis.xclaim("events", "workers", "another", 0, [ids[2]])
    os.kill(keeper, signal.SIGCONT)
    os.kill(pool.pid, signal.SIGCONT)
    pool.wait_log("was given to another instance meanwhile: killed, not charged")
    pool.wait_finished([entry for entry in ids if entry != ids[2]])
    until(lambda: pool.pending() == 1 and pool.unread() == 0, "all but that one settled")
    assert pool.stop() == 0
    assert pool.started() == dict.fromkeys(ids, 1)
    assert pool.finished() == {entry: 1 for entry in ids if entry != ids[2]}
    assert pool.consumers()["another"] == 1
    assert pool.counters()["FAILED"] == 0
    assert pool.dead() == {}


def test_all_of_a_pool_stopped_for_longer_than_its_lease(make_pool: Callable[..., Pool]) -> None:
    """As a suspended machine: it looks what is still its own and goes on; nothing is run twice."""
    pool = make_pool(HANDLER, "--lease", str(LEASE_S), "--workers", "2")
    ids = pool.push(numbers(6))
    pool.start()
    pool.wait_started(ids[2])
    family = [psutil.Process(pool.pid), *psutil.Process(pool.pid).children(recursive=True)]
    stand_still(*(process.pid for process in family))
    until(lambda: pool.redis.keys("rsq:*instance:*") == [], "the end of the lease")
    for process in reversed(family):
        process.send_signal(signal.SIGCONT)
    until(lambda: pool.term() == 2, "a new term")
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
