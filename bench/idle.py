"""What a pool costs when there is nothing to do, and what a fleet costs its server."""

from __future__ import annotations

import heapq
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis

from ..ipc.cells import Swept
from ..streams import beat, fleet
from ..streams.connection import target
from ..streams.group import pack
from ..streams.wire import Wire
from . import rig
from .answer import Answer, Figure, Scale

QUESTION = "What does a pool cost while there is nothing to do, and what do fifty of them cost the server?"
METHOD = (
    "A pool of 8 with its defaults, leading and sweeping, and an empty stream. Commands are counted as "
    "clients send them (MONITOR; what scripts call is the server's affair), CPU seconds come from the "
    "operating system's accounts. The fleet: the beats and waits of 50 keepers, sent by one process; CPU "
    "of the server."
)
WORKERS, INSTANCES, LEASE_S = 8, 50, 15.0
SECONDS = 30.0
_SETTLE_S = LEASE_S + 6.0  # a leader sweeps only then


@contextmanager
def pool(url: str) -> Iterator[psutil.Process]:
    """Run an idle pool with its defaults; yield its master."""
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        log = Path(folder, "log")
        command = [
            sys.executable, "-m", "rsq.supervisor.cli", "--workers", str(WORKERS), "--redis", url,
            "--runtime-dir", folder, "--metrics", "127.0.0.1:0", "--log-file", str(log),
            "rsq.bench.handlers:noop",
        ]  # fmt: skip
        process = subprocess.Popen(command, start_new_session=True)
        try:
            deadline = time.monotonic() + 30
            while "ready: " not in (log.read_text() if log.exists() else ""):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the pool did not start:\n{log.read_text()}")
                time.sleep(0.05)
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def commands(url: str, seconds: float) -> Counter[str]:
    """Return which commands clients send within so many seconds, and how often."""
    seen: Counter[str] = Counter()
    wire = Wire(target(url), "monitor", 5.0)
    wire.send(pack("MONITOR"))
    end = time.monotonic() + seconds
    while True:
        came, line = wire.receive(end + 1, end)
        if not came:
            wire.close()
            return seen
        _, _, words = line.partition(b"[")
        source, _, command = words.partition(b"] ")
        if command and not source.endswith(b" lua"):
            seen[command.split()[0].strip(b'"').decode().upper()] += 1


def used_s(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and all its children."""
    family = [process, *process.children(recursive=True)]
    return sum(times.user + times.system for times in (one.cpu_times() for one in family))


def one_pool(url: str, seconds: float) -> tuple[float, float, str]:
    """Return commands per second and the share of a core that one idle pool takes, and which commands."""
    with pool(url) as master:
        time.sleep(_SETTLE_S)
        before, at = used_s(master), time.monotonic()
        seen = commands(url, seconds)
        passed = time.monotonic() - at
        core = (used_s(master) - before) / passed
    each = ", ".join(f"{name} {count / passed:.2f}" for name, count in seen.most_common())
    return seen.total() / passed, core, each


def many(url: str, instances: int, seconds: float) -> float:
    """Return the share of a core that the keepers of a fleet cost the server."""
    client: Any = redis.Redis.from_url(url)
    client.flushall()
    client.xgroup_create(rig.STREAM, rig.GROUP, "0", mkstream=True)
    server = psutil.Process(client.info("server")["process_id"])
    fields = tuple(counter.name.lower() for counter in Swept)
    lines: list[tuple[Wire, beat.Who, bytes]] = []
    due: list[tuple[float, int]] = []
    for number in range(instances):
        name = f"web-{number}"
        who = beat.Who(
            rig.STREAM, rig.GROUP, name, f"{number:x}", f"{name} pid 1", int(LEASE_S * 1000), fields
        )
        slots = dict.fromkeys(range(WORKERS), fleet.IDLE)
        report = fleet.Report(name, 1, "1", time.time(), time.time(), LEASE_S, slots).encode()
        lines.append((Wire(target(url), name, 5.0), who, report))
        heapq.heappush(due, (time.monotonic() + number * LEASE_S / 3 / instances, number))
    waiting: set[int] = set()  # whose wait for a word is still to be answered
    begun, before = time.monotonic(), sum(server.cpu_times()[:2])
    while time.monotonic() < begun + seconds:
        at, number = heapq.heappop(due)
        time.sleep(max(0.0, at - time.monotonic()))
        wire, who, report = lines[number]
        if number in waiting:
            wire.receive(time.monotonic() + 5)
        wire.send(beat.beat(who, report, range(WORKERS), ()) + beat.listen(who, LEASE_S / 3 - 0.5))
        waiting.add(number)
        _, reply = wire.receive(time.monotonic() + 5)
        assert beat.parse(reply).lease.held, "a beat was refused: the figure means nothing"
        heapq.heappush(due, (at + LEASE_S / 3, number))
    passed = time.monotonic() - begun
    share = (sum(server.cpu_times()[:2]) - before) / passed
    for wire, _, _ in lines:
        wire.close()
    return share


def answer(scale: Scale) -> Answer:
    """Measure both."""
    seconds = max(10.0, SECONDS * scale.size)
    with rig.server() as url:
        rate, core, each = one_pool(url, seconds)
        server = many(url, INSTANCES, seconds)
    return Answer(
        "idle",
        QUESTION,
        METHOD,
        (
            Figure(f"an idle pool of {WORKERS}: commands", (rate,), "/s", at_most=3.0),
            Figure("CPU of all its processes", (core * 100,), "% of a core", at_most=0.5),
            Figure(
                f"{INSTANCES} instances' keepers: CPU of the server",
                (server * 100,),
                "% of a core",
                at_most=1.0,
            ),
        ),
        notes=(f"Its commands: {each} each second.",),
    )
