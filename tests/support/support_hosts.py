"""Several pools of one group on one machine, each standing for a host with a memory of its own."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterable
from typing import Any

import psutil
from support_pool import Pool, accounted, until
from support_servers import end, stand_still_below

from rsq.ipc.cells import K
from rsq.streams import keys
from rsq.streams.marks import split


class Fleet:
    """Pools that share a stream, a group and a ledger; the first one is asked for what is in Redis."""

    def __init__(self, *pools: Pool) -> None:
        """Bring pools together; started or not."""
        self.pools = pools
        self.any = pools[0]
        self.forgotten: Counter[str] = Counter()  # counters of memories that were lost

    def start(self) -> None:
        """Start all, one after the other: the first one leads."""
        for pool in self.pools:
            pool.start()

    def stop(self) -> None:
        """TERM all, and wait."""
        for pool in self.pools:
            assert pool.stop() == 0, pool.log()

    def swept(self) -> dict[str, int]:
        """Return what the sweeps have done to the group."""
        return self.any.swept()

    def leader(self) -> str:
        """Return the instance that leads; empty when nobody does."""
        found: Any = self.any.redis.get(keys.leader("events", "workers"))
        return found.decode().split(" ", 2)[2] if found else ""

    def wait_leader(self, *names: str) -> None:
        """Wait until one of these leads."""
        until(lambda: self.leader() in names, f"the lead of {names}")

    def owners(self) -> dict[str, str]:
        """Return entry id -> consumer of the slot that has it, of all that is pending."""
        rows: Any = self.any.redis.xpending_range("events", "workers", "-", "+", 10_000)
        return {row["message_id"].decode(): split(row["consumer"].decode())[0] for row in rows}

    def lose(self, pool: Pool) -> None:
        """Lose a host: kill -9 of everything on it, and its memory is gone."""
        kill_all(pool)
        self.forgotten += Counter(pool.counters())
        for path in pool.runtime.iterdir():
            path.unlink()

    def assert_exact(
        self,
        pushed: Iterable[str],
        *,
        dead: dict[str, int] | None = None,
        restarted: dict[str, int] | None = None,
    ) -> None:
        """Check the ledger against Redis and the metrics of all pools that still have a memory.

        Arguments:
            pushed: ids of all entries that were ever added.
            dead: id -> how often its handler was started before it was dead-lettered.
            restarted: id -> how often it was started with an entry that ended well in the end.
        """
        dead, restarted = dead or {}, restarted or {}
        everything = list(pushed)
        wanted = dict.fromkeys(everything, 1) | restarted | dead
        log = "\n".join(pool.log() for pool in self.pools)
        assert self.any.started() == {entry: count for entry, count in wanted.items() if count}, log
        assert self.any.finished() == {entry: 1 for entry in everything if entry not in dead}, log
        assert self.any.dead().keys() == dead.keys()
        assert (self.any.pending(), self.any.unread()) == (0, 0)
        kept = [pool for pool in self.pools if list(pool.runtime.glob("*.seg"))]
        counted = sum((Counter(pool.counters()) for pool in kept), self.forgotten)
        buried, lost = self.swept().get("buried", 0), self.swept().get("lost", 0)
        assert counted["HANDLED"] == len(everything) - len(dead)
        assert counted["DEAD"] + buried == len(dead)
        assert counted["LOST"] + lost == 0
        found = accounted(counted, self.swept(), self.any.pending(), self.any.unread())
        assert sum(found.values()) == len(everything), found


def family(pool: Pool) -> list[int]:
    """Return the pids of a pool's master and all its children."""
    if pool.process is None or pool.process.poll() is not None:
        return []  # its number may be another's by now
    with contextlib.suppress(psutil.NoSuchProcess):
        master = psutil.Process(pool.pid)
        return [master.pid, *(child.pid for child in master.children(recursive=True))]
    return []


def kill_all(pool: Pool) -> None:
    """Kill -9 a master and all its children, none of which can do anything about it."""
    if pool.process is not None and pool.process.poll() is None:  # its number may be another's later
        end(stand_still_below(pool.pid))
    pool.wait()
    pool.wait_free()


@contextlib.contextmanager
def stopped(pool: Pool) -> Any:
    """Inside the block nothing of a pool runs, as on a machine that is suspended."""
    pids = stand_still_below(pool.pid)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def lease_left(pool: Pool) -> bool:
    """Tell whether the lease of a pool's instance is there."""
    name = pool.options[len(pool.options) - 1 - pool.options[::-1].index("--instance") + 1]
    return bool(pool.redis.exists(keys.lease("events", "workers", name)))


def term(pool: Pool) -> int:
    """Return how often the lease of a pool was won anew."""
    segment = pool.segment()
    try:
        return segment.keep.view[K.TERM]
    finally:
        segment.close()
