"""Pools in which entries are lent, and what is asked of them."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until
from support_servers import stand_still

from rsq.ipc.cells import W

LONG, COUNT = 1000, 1080  # number of the entry that takes long, and of all; by then batches are large
WAITS = f"""
def handle(message):
    started(message)
    ledger().hset("attempts", message.id, message.attempt)
    if message.data["n"] == {LONG}:
        wait_for("go")
    finished(message)
"""
# Every fortieth entry takes as long as many others: what is behind it is lent, if somebody is idle.
SOMETIMES = """
def handle(message):
    started(message)
    if message.data["n"] % 40 == 7:
        time.sleep(0.04)
    finished(message)
"""
# With so long a batch its size follows from how it grows alone, however slow an entry was for once.
OPTIONS = ("--batch-max", "200", "--batch-ms", "60000")


def lent(pool: Pool) -> int:
    """Return how many entries were lent, ever."""
    segment = pool.segment()
    try:
        used = [slot for slot in range(segment.capacity) if segment.used(slot)]
        return sum(segment.slot(slot).ward.view[W.LENT] for slot in used)
    finally:
        segment.close()


def behind_a_long_one(pool: Pool) -> list[str]:
    """Bring a pool of one worker to where it has run for long, with all others behind it in its hand."""
    ids = pool.push(numbers(COUNT))
    pool.start()
    pool.wait_started(ids[LONG])
    batch = pool.batch()
    assert len(batch.ids) - batch.ids.index(ids[LONG].encode()) > 10
    assert pool.unread() == 0, "it has not read ahead"
    return ids


def in_bursts(pool: Pool, between: Callable[[], None], bursts: int = 12, size: int = 160) -> list[str]:
    """Push bursts to an idle pool, and do something while each is worked on; return all ids."""
    ids: list[str] = []
    draw = random.Random(7)
    for _ in range(bursts):
        ids += pool.push(numbers(size))
        at = len(ids) - draw.randrange(size)
        until(lambda at=at: len(pool.finished()) >= at, "the middle of a burst")  # type: ignore[misc]
        between()
        pool.wait_finished(ids)
    return ids


def stopped(pid: int, until_then: Callable[[], bool]) -> None:
    """Stop a process until something is true."""
    stand_still(pid)
    try:
        until(until_then, "what happens while a process is stopped")
    finally:
        os.kill(pid, signal.SIGCONT)
