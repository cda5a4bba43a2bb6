"""What a pool costs when there is nothing to do, and what a fleet costs its server.

python -m rsq.bench.idle [--seconds 30] [--instances 50]

Commands are counted as clients send them (MONITOR; what scripts call is the server's affair), CPU seconds
come from the operating system's accounts.
"""

from __future__ import annotations

import argparse
import heapq
import os
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

WORKERS, LEASE_S = 8, 15.0
MOST_COMMANDS, MOST_CORE, MOST_SERVER = 3.0, 0.005, 0.01
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


def one_pool(url: str, seconds: float) -> bool:
    """Measure one idle pool; tell whether it stays below the targets."""
    with pool(url) as master:
        time.sleep(_SETTLE_S)
        before, at = used_s(master), time.monotonic()
        seen = commands(url, seconds)
        passed = time.monotonic() - at
        core = (used_s(master) - before) / passed
    rate = seen.total() / passed
    each = ", ".join(f"{name} {count / passed:.2f}" for name, count in seen.most_common())
    print(f"idle pool of {WORKERS}: {rate:.2f} commands/s ({each}), target at most {MOST_COMMANDS:g}")
    print(f"  {core:.2%} of a core for all its processes, target at most {MOST_CORE:.1%}")
    return rate <= MOST_COMMANDS and core <= MOST_CORE


def many(url: str, instances: int, seconds: float) -> bool:
    """Measure what the keepers of a fleet cost the server; tell whether it stays below the target."""
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
    begun, before, beats = time.monotonic(), sum(server.cpu_times()[:2]), 0
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
        beats += 1
        heapq.heappush(due, (at + LEASE_S / 3, number))
    passed = time.monotonic() - begun
    share = (sum(server.cpu_times()[:2]) - before) / passed
    for wire, _, _ in lines:
        wire.close()
    print(
        f"{instances} instances of {WORKERS} slots: {beats / passed:.1f} beats/s cost the server {share:.2%}"
    )
    print(f"  of a core, target below {MOST_SERVER:.0%}")
    return share < MOST_SERVER


def main() -> None:
    """Measure both, print the figures beside the targets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--instances", type=int, default=50)
    wanted = parser.parse_args()
    with rig.server() as url:
        print(f"server {rig.version(url)}, {os.cpu_count()} cores, {wanted.seconds:g} s each")
        met = one_pool(url, wanted.seconds)
        met = many(url, wanted.instances, wanted.seconds) and met
    print("targets met" if met else "targets missed")


if __name__ == "__main__":
    main()
