"""A group, hosts that live and die in it, and a leader that sweeps: without processes, at any speed."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from support_servers import Server

from rsq.streams import fleet, keys, lease, marks
from rsq.streams.connection import target
from rsq.streams.group import Pending, pack, pending_rows
from rsq.streams.marks import Mark
from rsq.streams.wire import Wire
from rsq.supervisor.settings import Pool, build
from rsq.supervisor.sweep import Sweeper

STREAM, GROUP, DLQ = "orders", "mailer", "orders:dlq"
LEASE_S, TTL_S, MOST = 15.0, 3600.0, 3
LEASE_MS, TTL_MS, THIRD_MS = 15_000, 3_600_000, 5_000
FOREVER_MS = 10**9


def pool(url: str, **changed: Any) -> Pool:
    """The settings of a pool that sweeps."""
    values: dict[str, Any] = {
        "handler": "app:handle", "workers": 2, "redis": url, "redis_file": None, "stream": STREAM,
        "group": GROUP, "instance": "leader", "start_id": "0", "serializer": "json", "allow_pickle": False,
        "unknown_event": "ignore",
        "max_attempts": MOST, "backoff_base": 1.0, "backoff_max": 300.0, "timeout": 300.0,
        "soft_timeout": 0.0, "batch_max": 500, "batch_ms": 50.0, "block_ms": 5000, "dlq": "",
        "lease": LEASE_S, "consumer_ttl": TTL_S, "trim": "none", "drain_timeout": 30.0,
        "reload_timeout": 60.0, "max_messages": 0,
        "max_memory_growth": "0", "max_memory": "0", "scale_target": 30.0, "scale_step": 4,
        "scale_cooldown": 10.0, "preload": True, "metrics": "off", "runtime_dir": None,
        "stop_when_empty": False, "envelope": "auto", "once": "",
    }  # fmt: skip
    return build({**values, **changed}, metrics_asked=False)


class Field:
    """A group on a server, as raw commands; every lease lives until it is taken away."""

    def __init__(self, server: Server | str) -> None:
        self.url = server if isinstance(server, str) else server.url
        self.wire = Wire(target(self.url), "test", 20.0)
        self.ask("XGROUP", "CREATE", STREAM, GROUP, "0", "MKSTREAM")
        self.reports: dict[str, dict[int, str]] = {}
        self.epoch = 0
        self.old = False  # marks are set as versions before set them: by idle time

    def close(self) -> None:
        self.wire.close()

    def call(self, *commands: bytes) -> list[Any]:
        """What a `Sweeper` wants."""
        self.wire.send(b"".join(commands))
        deadline = time.monotonic() + 20
        return [self.wire.receive(deadline)[1] for _ in commands]

    def ask(self, *words: bytes | str | int) -> Any:
        """One command; errors are raised."""
        (reply,) = self.call(pack(*words))
        if isinstance(reply, Exception):
            raise reply
        return reply

    def lead(self, token: str = "t1") -> int:
        """Take the lead from whoever has it; return the epoch."""
        self.ask("DEL", keys.leader(STREAM, GROUP))
        names = keys.leader(STREAM, GROUP), keys.epoch(STREAM, GROUP)
        (reply,) = self.call(lease.acquire(*names, token, "leader on host", FOREVER_MS))
        self.epoch = lease.term(reply).epoch
        return self.epoch

    def host(self, instance: str, slots: dict[int, str], lease_s: float = LEASE_S) -> None:
        """Let an instance live, and report."""
        self.ask("SET", keys.lease(STREAM, GROUP, instance), f"1 x {instance}", "PX", FOREVER_MS)
        said = fleet.Report(instance, 1, "0", time.time(), time.time(), lease_s, slots)
        self.ask("HSET", keys.instances(STREAM, GROUP), instance, said.encode())

    def die(self, instance: str) -> None:
        """Let an instance's lease run out."""
        self.ask("DEL", keys.lease(STREAM, GROUP, instance))

    def push(self, number: int, size: int = 1) -> list[bytes]:
        """Add entries."""
        return [self.ask("XADD", STREAM, "*", "data", "x" * size) for _ in range(number)]

    def read(self, consumer: str, number: int) -> list[bytes]:
        """Let a consumer read; return the ids."""
        reply = self.ask("XREADGROUP", "GROUP", GROUP, consumer, "COUNT", number, "STREAMS", STREAM, ">")
        return [entry[0] for entry in reply[0][1]] if reply else []

    def hold(self, consumer: str, number: int, idle_ms: int = LEASE_MS, counter: int = 1) -> list[bytes]:
        """Push entries, let a consumer have them, idle for so long."""
        self.push(number)
        found = self.read(consumer, number)
        self.set(consumer, found, idle_ms, counter)
        return found

    def set(self, consumer: str, ids: list[bytes], idle_ms: int, counter: int) -> None:
        """Set the slot, the idle time and the counter of pending entries; a large idle time is a mark."""
        mark, untouched_ms = marks.read(Mark.HELD, idle_ms)
        owner: str | bytes = consumer
        if mark is not Mark.HELD:
            owner, idle_ms = marks.place(consumer, mark, old=self.old)
            idle_ms += untouched_ms
        self.ask("XCLAIM", STREAM, GROUP, owner, 0, *ids, "IDLE", idle_ms, "RETRYCOUNT", counter, "JUSTID")

    def rows(self) -> dict[bytes, Pending]:
        """The whole pending list, with all marks as idle times of the slots' consumers."""
        return {
            row.entry: plain(row)
            for row in pending_rows(self.ask("XPENDING", STREAM, GROUP, "-", "+", 10**6))
        }

    def owners(self) -> dict[bytes, int]:
        """Slot's consumer -> how many entries it has."""
        return dict(Counter(row.consumer for row in self.rows().values()))

    def swept(self) -> dict[str, int]:
        """What the sweeps have counted."""
        flat = self.ask("HGETALL", keys.swept(STREAM, GROUP))
        return {name.decode(): int(value) for name, value in zip(flat[::2], flat[1::2], strict=True)}

    def inbox(self, instance: str) -> list[bytes]:
        found: list[bytes] = self.ask("LRANGE", keys.inbox(STREAM, GROUP, instance), 0, -1)
        return found

    def letters(self) -> list[list[Any]]:
        found: list[list[Any]] = self.ask("XRANGE", DLQ, "-", "+")
        return found

    def sweeper(self, **changed: Any) -> Sweeper:
        return Sweeper(pool(self.url, **changed), self.call)

    def sweep(self, sweeper: Sweeper | None = None, **changed: Any) -> int:
        """One whole pass of the present leader; returns how many turns it took."""
        return run_pass(sweeper or self.sweeper(**changed), self.epoch)


def run_pass(sweeper: Sweeper, epoch: int) -> int:
    """One whole pass, however long it says that one must wait."""
    now = sweeper.turn(epoch, 0.0) if sweeper._epoch != epoch else sweeper._due
    turns = 1
    while True:
        asked = sweeper.turn(epoch, now)
        turns += 1
        if sweeper._turns is None:
            return turns
        now = asked


def plain(row: Pending) -> Pending:
    """A row as the versions before marks by owner would have it."""
    mark, untouched_ms = row.reading
    return row._replace(consumer=row.slot, idle_ms=marks.place("", mark, old=True).idle_ms + untouched_ms)


def rested(row: Pending) -> bool:
    return row.rests
