"""What a sweep costs the server: a pass over a million live entries, and the taking of a lost host's."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import redis

from ..streams import fleet, keys, lease
from ..streams.connection import target
from ..streams.group import pack
from ..streams.wire import Wire
from ..supervisor.settings import Pool, build
from ..supervisor.sweep import Sweeper
from . import rig
from .answer import Answer, Figure, Scale

QUESTION = "What does a sweep cost the server?"
METHOD = (
    "Half of the live entries are held by few slots that hold very much each, half by many that hold "
    "less; the leader's sweep goes over them at its own pace, then over those of a lost host. Server CPU "
    "is that of the whole server while a pass goes on. How long it was kept from others: the CPU of its "
    "main thread for one write (which may be several commands, served back to back), as the kernel "
    "accounts it, so that other work of the machine is not in it. What is measured by the clock is not "
    "judged."
)
LIVE, DEAD, PASSES = 1_000_000, 100_000, 3
HOSTS, FULL, SLOTS = 24, 2, 8
FOREVER_MS = 10**9
PASS_MS, BLOCK_MS = 100, 5


class Leader:
    """A leader without a keeper around it."""

    def __init__(self, url: str) -> None:
        self.client: Any = redis.Redis.from_url(url)
        self._wire = Wire(target(url), "bench", 60.0)
        self.waits: list[float] = []
        self.spent: list[float] = []
        pid = self.client.info("server")["process_id"]
        self._account = Path(f"/proc/{pid}/task/{pid}/schedstat")
        names = keys.leader(rig.STREAM, rig.GROUP), keys.epoch(rig.STREAM, rig.GROUP)
        (reply,) = self.call(lease.acquire(*names, "t", "bench", FOREVER_MS))
        self.epoch = lease.term(reply).epoch
        self.sweeper = Sweeper(pool(url), self.call)
        self.now = self.sweeper.turn(self.epoch, time.monotonic())  # it would wait for a whole lease

    def call(self, *commands: bytes) -> list[Any]:
        """Send commands in one write, and wait for all replies."""
        before, begun = self._main_s(), time.monotonic()
        self._wire.send(b"".join(commands))
        replies = [self._wire.receive(begun + 60)[1] for _ in commands]
        self.waits.append(time.monotonic() - begun)
        self.spent.append(self._main_s() - before)
        return replies

    def _main_s(self) -> float:
        return int(self._account.read_text().split()[0]) / 1e9

    def sweep(self) -> tuple[float, int]:
        """One pass at its own pace; return its seconds and its turns."""
        begun, turns = time.monotonic(), 0
        due = self.now
        while True:
            self.now = self.sweeper.turn(self.epoch, due)
            turns += 1
            if self.sweeper._turns is None:
                return time.monotonic() - begun, turns
            time.sleep(self.now - due)
            due = self.now

    def host(self, instance: str, state: str) -> None:
        """Let an instance live."""
        self.client.set(keys.lease(rig.STREAM, rig.GROUP, instance), f"1 x {instance}", px=FOREVER_MS)
        slots = dict.fromkeys(range(SLOTS), state)
        said = fleet.Report(instance, 1, "0", time.time(), time.time(), 15.0, slots)
        self.client.hset(keys.instances(rig.STREAM, rig.GROUP), instance, said.encode())

    def fill(self, host: str, each: int) -> list[tuple[str, list[bytes]]]:
        """Let every slot of a host hold so many entries; return which."""
        held: list[tuple[str, list[bytes]]] = []
        add = pack("XADD", rig.STREAM, "*", "data", "x" * 20)
        for slot in range(SLOTS):
            who = keys.consumer(host, slot)
            for at in range(0, each, 1000):
                self.call(*[add] * min(1000, each - at))
            words = ("GROUP", rig.GROUP, who, "COUNT", each, "STREAMS", rig.STREAM, ">")
            (reply,) = self.call(pack("XREADGROUP", *words))
            held.append((who, [entry for entry, _ in reply[0][1]]))
        return held

    def reset(self) -> None:
        """Forget what the server has counted."""
        self.client.config_set("slowlog-log-slower-than", 500)
        self.client.slowlog_reset()
        self.waits, self.spent = [], []
        self._begun_s = self._cpu_s()

    def cost(self) -> tuple[float, float]:
        """CPU milliseconds of the server since the reset, and the longest command by the clock."""
        slow = [row["duration"] for row in self.client.slowlog_get(1000)]
        return (self._cpu_s() - self._begun_s) * 1000, max(slow, default=0) / 1000

    def _cpu_s(self) -> float:
        used = self.client.info("cpu")
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])

    def writes(self) -> tuple[float, float]:
        """Most CPU milliseconds of the server for one write, and the longest write by the clock."""
        return max(self.spent) * 1000, max(self.waits) * 1000

    def noise(self) -> float:
        """Return the longest PING in ms of as many as there were writes."""
        writes, self.waits = len(self.waits), []
        for _ in range(writes):
            self.call(pack("PING"))
            time.sleep(0.001)
        return max(self.waits) * 1000


def pool(url: str) -> Pool:
    """Return the settings of a pool with nothing but defaults, trimming what all have acknowledged."""
    values: dict[str, Any] = {
        "handler": "app:handle", "workers": SLOTS, "redis": url, "redis_file": None, "stream": rig.STREAM,
        "group": rig.GROUP, "instance": "bench", "start_id": "0", "serializer": "json",
        "allow_pickle": False, "unknown_event": "ignore", "max_attempts": 3,
        "backoff_base": 1.0, "backoff_max": 300.0,
        "timeout": 300.0, "soft_timeout": 0.0, "batch_max": 500, "batch_ms": 50.0, "block_ms": 5000,
        "dlq": "", "lease": 15.0, "consumer_ttl": 3600.0, "trim": "acked", "drain_timeout": 30.0,
        "max_messages": 0, "max_memory_growth": "0", "max_memory": "0", "scale_target": 30.0,
        "scale_step": 4, "scale_cooldown": 10.0, "preload": True, "metrics": "off",
        "runtime_dir": None, "stop_when_empty": False,
    }  # fmt: skip
    return build(values, metrics_asked=False)


def load(leader: Leader, live: int) -> int:
    """Let hosts that live hold entries; return how many."""
    for number in range(HOSTS):
        leader.host(f"host-{number}", fleet.BUSY)
        leader.fill(f"host-{number}", live // 2 // SLOTS // (FULL if number < FULL else HOSTS - FULL))
    return int(leader.client.xpending(rig.STREAM, rig.GROUP)["pending"])


def lose(leader: Leader, dead: int) -> None:
    """Let a host hold entries and be gone for longer than its lease."""
    leader.host("lost", fleet.BUSY)
    for who, ids in leader.fill("lost", dead // SLOTS):
        for at in range(0, len(ids), 1000):
            page = ids[at : at + 1000]
            leader.call(pack("XCLAIM", rig.STREAM, rig.GROUP, who, 0, *page, "IDLE", 20_000, "JUSTID"))
    leader.client.delete(keys.lease(rig.STREAM, rig.GROUP, "lost"))


def answer(scale: Scale) -> Answer:
    """Measure passes over live entries, then the taking of a lost host's.

    Raises:
        rig.Void: not all of the lost host's entries were taken.
    """
    dead = scale.messages(DEAD) // SLOTS * SLOTS
    costs, blocks, clocks = [], [], []
    with rig.server() as url:
        client: Any = redis.Redis.from_url(url)
        client.xgroup_create(rig.STREAM, rig.GROUP, "0", mkstream=True)
        leader = Leader(url)
        found = load(leader, scale.messages(LIVE))
        for _ in range(PASSES):
            leader.reset()
            leader.sweep()
            costs.append(leader.cost()[0])
            spent, longest = leader.writes()
            blocks.append(spent)
            clocks.append(longest)
        lose(leader, dead)
        leader.reset()
        wall_s, _ = leader.sweep()
        server_ms, _ = leader.cost()
        taken = int(client.hget(keys.swept(rig.STREAM, rig.GROUP), "taken") or 0)
        if taken != dead:
            raise rig.Void(f"{taken} entries were taken, not {dead}")
        spent, longest = leader.writes()
        noise = leader.noise()
    words = (
        f"By the clock a write took {statistics.median(clocks):.1f} ms at most in a pass, {longest:.1f} ms"
        f" while a lost host was taken over; of as many PINGs the longest took {noise:.1f} ms."
    )
    return Answer(
        "sweep",
        QUESTION,
        METHOD,
        (
            Figure(f"a pass over {found:,} live entries: server CPU", tuple(costs), "ms", at_most=PASS_MS),
            Figure("most server CPU for one write", tuple(blocks), "ms", at_most=BLOCK_MS),
            Figure(f"{taken:,} entries of a lost host: server CPU", (server_ms / taken * 1000,), "us each"),
            Figure("most server CPU for one write of that", (spent,), "ms", at_most=BLOCK_MS),
            Figure("all of them handed over", (wall_s,), "s"),
        ),
        notes=(words,),
    )
