"""SIGHUP with good new code while the stream is full."""

from __future__ import annotations

import signal
from collections.abc import Callable

import psutil
from support_pool import Pool, numbers, until

HANDLER = """
    VERSION = "{version}"
    def handle(message):
        started(message)
        ledger().hincrby("versions", VERSION, 1)
        finished(message)
    """


def test_slots_roll_one_by_one(make_pool: Callable[..., Pool]) -> None:
    """The same master, new workers with new code, one slot out at most, nothing lost or run twice."""
    pool = make_pool(HANDLER.format(version="old"), "--workers", "3")
    ids = pool.push(numbers(1000))
    pool.start()
    pool.wait_count(finished=500)
    master, old = pool.pid, pool.holders()
    pool.write(HANDLER.format(version="new"))
    pool.signal(signal.SIGHUP)
    fewest = 3

    def rolled() -> bool:
        nonlocal fewest
        fewest = min(fewest, sum(pool.is_booted(pid, slot) for slot, pid in pool.seats().items()))
        if pool.unread() < 500:
            ids.extend(pool.push(numbers(500)))
        return "reloaded: every slot runs the new code" in pool.log()

    until(rolled, "new workers")
    assert not set(old) & set(pool.holders())
    assert psutil.pid_exists(master)
    assert fewest >= 2
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    versions = {name.decode(): int(count) for name, count in pool.books.hgetall("versions").items()}  # type: ignore[union-attr]
    assert versions.keys() == {"old", "new"}
    assert sum(versions.values()) == len(ids)
    assert pool.restarts() == {"RELOAD": 3, "CLEAN": 3}
    assert pool.counters()["FAILED"] == 0
