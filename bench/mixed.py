"""Short messages among long ones: does anybody wait behind a long one while a neighbour is idle?"""

from __future__ import annotations

import heapq
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import redis

from . import rig
from .answer import Answer, Figure, Plot, Scale

QUESTION = "How long do short messages take while one in a hundred takes a second?"
METHOD = (
    "A pool of 8 workers with its defaults; 99 of 100 messages sleep for 1 ms in the handler, one for 1 s."
    " Time from before XADD to after the handler, of the short ones. Steady: Poisson arrivals at 200 a"
    " second. Bursts: 100 messages in one write to an idle pool, one of them long. The ideal is computed: one"
    " queue without any overhead before 8 servers, for the very same arrivals. Server and pool share all"
    " cores."
)
_NOTE = (
    "Bursts are a harder load than the steady one: half a second of them in one write. Eight workers,"
    " their keeper, the server and the sender have two cores here, and an ideal queue on as many"
    " workers needs half of the limit."
)
WORKERS, SHORT_S, LONG_S = 8, 0.001, 1.0
RATE, STEADY = 200, 3000
BURSTS, BURST = 4, 100
WARM = 200
TARGET_MS = 30


class Job(NamedTuple):
    """A message: when it came and how long its handler takes."""

    at: float
    takes: float


def ideal(jobs: Sequence[Job], servers: int = WORKERS) -> list[float]:
    """Return when each job is done that waits in one queue for the first free server, in their order."""
    free = [0.0] * servers
    done = []
    for job in jobs:
        end = max(job.at, heapq.heappop(free)) + job.takes
        heapq.heappush(free, end)
        done.append(end)
    return done


def share(values: Sequence[float], part: float) -> float:
    """Return the value below which that part of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


@contextmanager
def pool(url: str, folder: str) -> Iterator[None]:
    """Run a pool with its defaults."""
    log = Path(folder, "log")
    command = [
        sys.executable, "-m", "rsq.supervisor.cli", "--workers", str(WORKERS), "--redis", url,
        "--runtime-dir", folder, "--metrics", "off", "--log-file", str(log), "rsq.bench.handlers:takes",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env={**os.environ, "RSQ_BENCH_REPORT": folder}, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 30
        while "ready: " not in (log.read_text() if log.exists() else ""):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the pool did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def send(client: Any, jobs: list[Job], takes: Sequence[float]) -> None:
    """Add messages in one write."""
    at = time.monotonic()
    pipe = client.pipeline(transaction=False)
    for seconds in takes:
        pipe.xadd(rig.STREAM, {"data": b'{"n":%d,"s":%r}' % (len(jobs), seconds)})
        jobs.append(Job(at, seconds))
    pipe.execute()


def run(url: str, scale: Scale, seed: int) -> tuple[list[Job], list[float], int, int]:
    """Run a pool once; return all jobs, when each was done, and where steady and bursts begin."""
    client: Any = redis.Redis.from_url(url)
    client.flushall()
    draw = random.Random(seed)  # the same arrivals in every run of a seed
    jobs: list[Job] = []
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        with pool(url, folder):
            for _ in range(WARM):
                send(client, jobs, [SHORT_S])
                time.sleep(0.002)
            steady, due = len(jobs), time.monotonic()
            for _ in range(scale.messages(STEADY)):
                due += draw.expovariate(RATE)
                time.sleep(max(0.0, due - time.monotonic()))
                send(client, jobs, [LONG_S if draw.random() < 1 / BURST else SHORT_S])
            bursts = len(jobs)
            for _ in range(BURSTS):
                time.sleep(1.3 * LONG_S)
                takes = [SHORT_S] * BURST
                takes[draw.randrange(BURST)] = LONG_S
                send(client, jobs, takes)
            deadline = time.monotonic() + 20 * LONG_S
            while (left := client.xinfo_groups(rig.STREAM)[0])["pending"] or left["lag"]:
                if time.monotonic() > deadline:
                    raise rig.Void(f"the group was not done in time: {left}")
                time.sleep(0.1)
        rows = [row.split() for path in Path(folder).glob("done-*") for row in path.read_text().splitlines()]
    rig.check_all_acknowledged(url, len(jobs))
    done = {int(number): float(at) for number, at in rows}
    if len(rows) != len(jobs) or len(done) != len(jobs):
        raise rig.Void(f"{len(rows)} calls of the handler, {len(done)} different, for {len(jobs)} messages")
    return jobs, [done[number] for number in range(len(jobs))], steady, bursts


def shorts(jobs: Sequence[Job], done: Sequence[float]) -> list[float]:
    """Return the milliseconds that each short message took."""
    return [(end - job.at) * 1000 for job, end in zip(jobs, done, strict=True) if job.takes < LONG_S]


def answer(scale: Scale) -> Answer:
    """Run pools, and compute the ideal for the same arrivals."""
    ours: dict[str, list[list[float]]] = {"steady": [], "bursts": []}
    best: dict[str, list[list[float]]] = {"steady": [], "bursts": []}
    with rig.server() as url:
        for seed in range(scale.runs):
            jobs, done, steady, bursts = run(url, scale, seed)
            perfect = ideal(jobs)
            for name, part in (("steady", slice(steady, bursts)), ("bursts", slice(bursts, None))):
                ours[name].append(shorts(jobs[part], done[part]))
                best[name].append(shorts(jobs[part], perfect[part]))
    figures = []
    for name in ours:
        p50, p99, worst = (tuple(share(run, part) for run in ours[name]) for part in (0.5, 0.99, 1.0))
        ideal99 = tuple(share(run, 0.99) for run in best[name])
        figures += [
            Figure(f"{name}: p99 of the short ones", p99, "ms", at_most=TARGET_MS),
            Figure(f"{name}: p99 in an ideal queue", ideal99, "ms"),
            Figure(f"{name}: p50", p50, "ms"),
            Figure(f"{name}: the slowest", worst, "ms"),
        ]
    series = {
        "rsq": list(chain.from_iterable(ours["steady"])),
        "rsq, bursts": list(chain.from_iterable(ours["bursts"])),
        "ideal": list(chain.from_iterable(best["steady"])),
        "ideal, bursts": list(chain.from_iterable(best["bursts"])),
    }
    plot = Plot(
        "mixed", "shares", "Short messages while one in a hundred takes a second", "ms from XADD to done",
        "share of messages", series, log_x=True, ours=("rsq", "rsq, bursts"),
    )  # fmt: skip
    return Answer("mixed", QUESTION, METHOD, tuple(figures), plots=(plot,), notes=(_NOTE,))
