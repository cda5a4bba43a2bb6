"""kill -9 of the master while a handler runs for longer than the lease."""

from __future__ import annotations

from collections.abc import Callable

import psutil
from support_pool import Pool, numbers, until
from support_servers import Server

HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] == 2:
            wait_for("go")
        finished(message)
    """
LEASE = "rsq:{events}:workers:instance:test"


def wait_beat(pool: Pool) -> None:
    before = pool.keep("UNTIL")
    until(lambda: pool.keep("UNTIL") > before, "a beat")


def test_the_lease_is_kept_until_the_worker_is_gone(make_pool: Callable[..., Pool]) -> None:
    """A second host waits for as long as the handler runs, then goes on at once: the keeper has let go."""
    pool, other = make_pool(HANDLER, "--lease", "4"), make_pool(HANDLER, "--lease", "4")
    ids = pool.push(numbers(6))
    pool.start()
    pool.wait_started(ids[2])
    keeper, worker = pool.keeper(), pool.worker()
    pool.kill_master()
    other.start(ready=False)
    other.wait_log("runs already, on ")
    for _ in range(6):
        wait_beat(pool)
    assert psutil.pid_exists(worker)
    assert "ready: " not in other.log()
    pool.release("go")
    until(lambda: not psutil.pid_exists(worker), "the end of the worker")
    until(lambda: not psutil.pid_exists(keeper), "the end of the keeper")
    other.wait_log("ready: 1 workers")
    other.wait_finished(ids)
    other.wait_settled()
    assert other.stop() == 0
    assert other.started() == other.finished() == dict.fromkeys(ids, 1)


def test_a_new_master_goes_on_with_the_lease(make_pool: Callable[..., Pool]) -> None:
    """Its keeper takes over from the orphaned one; no term is counted."""
    pool = make_pool(HANDLER, "--lease", "4")
    ids = pool.push(numbers(6))
    pool.start()
    pool.wait_started(ids[2])
    old = pool.keeper()
    pool.kill_master()
    pool.start(ready=False)
    pool.wait_log("of a former master, still works in it: waiting")
    until(lambda: pool.keeper() != old and not psutil.pid_exists(old), "the end of the old keeper")
    pool.release("go")
    pool.wait_log("ready: ")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.term() == 1
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert pool.redis.exists(LEASE) == 0


def test_a_worker_that_was_stopped_is_not_forgotten(
    make_own_pool: Callable[..., Pool], own_server: Server
) -> None:
    """Its master stopped it because the server was away, and died: the keeper lets it go on."""
    pool = make_own_pool(HANDLER, "--lease", "4")
    ids = pool.push(numbers(6))
    pool.start()
    pool.wait_started(ids[2])
    worker = pool.worker()
    with own_server.frozen():
        until(lambda: psutil.Process(worker).status() == psutil.STATUS_STOPPED, "a stopped worker")
        pool.kill_master()
        pool.release("go")
    until(lambda: not psutil.pid_exists(worker), "the end of the worker")
    pool.start()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
