"""What is asked of workers in every outage: that they say so, wait without haste, and can be stopped."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import psutil
import redis
from support_pool import Pool, numbers, until

from rsq.ipc.ledger import C

# Not a figure to be proud of, but one that a loop without pauses exceeds on any machine.
CPU_MOST = 0.2
# Entry 20 waits for the test, with a batch of finished ones before it.
HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] == 20:
            wait_for("go")
        finished(message)
    """
# The lease outlives every outage in these tests: they are about a worker's own line. What happens when it
# does not is in the tests of leases.
OPTIONS = ("--batch-ms", "5000", "--block-ms", "200", "--drain-timeout", "20", "--lease", "600")
DRAIN_TRIES_MOST = 100  # of each worker; with pauses a drain makes about ten
ERRORS = 5  # with backoff these take about a second
ERRORS_PER_S_MOST = 40.0  # and worker; a loop without pauses makes thousands


@contextlib.contextmanager
def at_ease(pool: Pool) -> Iterator[None]:
    """Check over the block, and until every worker has seen some errors, that they do not hurry.

    Each must use less than a fifth of a core, and log less than a line per error.
    """
    workers = {slot: psutil.Process(pid) for slot, pid in pool.seats().items()}
    began = time.monotonic()  # first and last, so that nothing is used in no time
    before, errors = _cpu_s(workers), _errors(pool)
    lines = pool.log().count("\n")
    yield
    until(
        lambda: all(now - errors[slot] >= ERRORS for slot, now in _errors(pool).items()),
        f"{ERRORS} errors of every worker",
    )
    after = _cpu_s(workers)
    took = time.monotonic() - began
    assert pool.seats() == {slot: worker.pid for slot, worker in workers.items()}, "a process was replaced"
    for slot in workers:
        used = (after[slot] - before[slot]) / took
        assert used < CPU_MOST, f"slot {slot} used {used:.0%} of a core in the outage:\n{pool.log()[-2000:]}"
        seen = _errors(pool)[slot] - errors[slot]
        assert seen / took < ERRORS_PER_S_MOST, f"slot {slot}: {seen} errors in {took:.1f} s"
    said = pool.log().count("\n") - lines
    assert said <= 4 * len(workers), f"{said} lines for one outage:\n{pool.log()[-2000:]}"


def in_the_middle(pool: Pool) -> list[str]:
    """Start it; return the entries once one is in hand and those before it are finished, not acknowledged."""
    ids = pool.push(numbers(60))
    pool.start()
    pool.wait_started(ids[20])
    if len(pool.seats()) == 1:
        pool.wait_finished(ids[:20])
        assert ids[19] in pool.delivery_counts(), "acknowledged already"
    return ids


def goes_on(pool: Pool, ids: list[str], dead: dict[str, int] | None = None) -> None:
    """Check that after the trouble everything was done once, by the processes that had begun it."""
    seats = pool.seats()
    ids = ids + pool.push([{"n": n} for n in range(100, 140)])
    pool.wait_finished(entry for entry in ids if entry not in (dead or {}))
    pool.wait_settled()
    assert pool.seats() == seats, "a process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids, dead=dead)


def goes_on_after_restart(pool: Pool, ids: list[str], dead: dict[str, int] | None = None) -> None:
    """Check that the next pool acknowledges what the last one had finished, and does the rest once."""
    pool.start()
    goes_on(pool, ids, dead)


def stops_in_time(pool: Pool) -> None:
    """Check that a drain comes to its end though Redis cannot be told, before anybody has to be killed."""
    before, connections = pool.counters()["REDIS_ERRORS"], _connections(pool)
    pool.signal(signal.SIGTERM)
    assert pool.wait(60) == 0  # its keeper has time too, to give the lease back; who was late is seen below
    assert "ended without Redis" in pool.log()
    tries = pool.counters()["REDIS_ERRORS"] - before + _connections(pool) - connections
    assert tries < DRAIN_TRIES_MOST, f"the drain did not pause:\n{pool.log()}"
    assert pool.log().count("handing back") <= 3
    assert pool.restarts().keys() <= {"CLEAN"}, pool.log()


def _connections(pool: Pool) -> int:
    """Return how many connections the server has ever seen; 0 while it is away."""
    try:
        return int(pool.redis.info("stats")["total_connections_received"])
    except redis.RedisError:
        return 0


def _cpu_s(workers: dict[int, psutil.Process]) -> dict[int, float]:
    times = {slot: worker.cpu_times() for slot, worker in workers.items()}
    return {slot: spent.user + spent.system for slot, spent in times.items()}


def _errors(pool: Pool) -> dict[int, int]:
    segment = pool.segment()
    try:
        return {
            slot: segment.slot(slot).ledger.read()[0].counters[C.REDIS_ERRORS]
            for slot in range(segment.capacity)
            if segment.used(slot)
        }
    finally:
        segment.close()
