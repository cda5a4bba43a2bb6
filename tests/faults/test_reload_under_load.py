"""SIGHUP with good new code while the stream is full."""

from __future__ import annotations

import signal
import urllib.request
from collections.abc import Callable
from typing import Any

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
    """The same master, new workers, one slot out at most, metrics at all times, nothing lost or run twice."""
    pool = make_pool(HANDLER.format(version="old"), "--workers", "3", "--metrics", "127.0.0.1:0")
    ids = pool.push(numbers(1000))
    pool.start()
    pool.wait_count(finished=500)
    old, url = pool.holders(), f"http://127.0.0.1:{pool.port()}/metrics"
    pool.write(HANDLER.format(version="new"))
    pool.signal(signal.SIGHUP)
    running, handled = [3], [0]

    def rolled() -> bool:
        seen = pool.booted()
        if seen == pool.booted():  # else some of it was seen before a change and some after it
            running.append(len(seen))
        handled.append(_handled(url))
        if pool.unread() < 500:
            ids.extend(pool.push(numbers(500)))
        return "reloaded: every slot runs the new code" in pool.log()

    until(rolled, "new workers", 60)
    ids.extend(pool.push(numbers(500)))  # the old ones may have read all that there was
    assert min(running) >= 2
    assert handled == sorted(handled)
    assert not set(old) & set(pool.holders())
    assert {psutil.Process(pid).ppid() for pid in pool.holders()} == {pool.pid}
    pool.wait_finished(ids)
    pool.wait_settled()
    until(lambda: _handled(url) == len(ids), "metrics of all entries")
    assert pool.stop() == 0
    pool.assert_exact(ids)
    rows: Any = pool.books.hgetall("versions")
    assert rows.keys() == {b"old", b"new"}
    assert sum(map(int, rows.values())) == len(ids)
    assert pool.restarts() == {"RELOAD": 3, "CLEAN": 3}
    assert pool.counters()["FAILED"] == 0


def _handled(url: str) -> int:
    """Return what the metrics say of all slots together; any answer but a page is an error."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        int(float(line.split()[-1])) for line in lines if line.startswith("rsq_messages_handled_total{")
    )
