"""How much memory the workers of a large application need together.

python -m rsq.bench.memory        import the application alone, and print what it needs
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import redis

from . import rig
from .answer import Answer, Figure, Plot, Scale, Table, number, ratios

QUESTION = "How much memory do sixteen workers need, against one process of the application?"
METHOD = (
    "An application of about 150 MB of ordinary Python objects (bench/application.py), preloaded. The sum of"
    " the proportional set sizes (PSS, /proc/PID/smaps_rollup) of the master, its keeper, its exporter and"
    " all workers, after they have handled some thousand messages each, with a handler that uses the same"
    " few parts of the application for each. Against the PSS of one plain process that has only imported it."
)
MESSAGES = 3000  # for each worker
WORKERS = (1, 2, 4, 8, 16)
_WAIT_S = 90.0
_NOTE = (
    "Python counts references inside of objects: what a handler touches for the first time is no longer"
    " shared. {:,} messages for each worker that need another part of the application each time show that."
)
_OWN = (
    "A worker makes about 6 MB its own: 2.5 MB by the fork and its first page (data of the interpreter, heap,"
    " counts of references in code that runs), 3 MB by setting up the loop and the connection, 0.7 MB by its"
    " first thousands of messages. Of the sum, 17 MB are the pool's program and its libraries, shared by all."
)


def pss_mb(pid: int) -> float:
    """Return the proportional set size of a process in MB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    raise rig.Void("the kernel does not tell the proportional set size")


def _alone() -> float:
    done = subprocess.run(
        [sys.executable, "-m", "rsq.bench.memory"], stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout)


def _pool(url: str, workers: int, each: int, handler: str = "handle") -> dict[str, float]:
    """Let a pool handle messages; return the memory of its processes by what they are, in MB."""
    rig.preload(url, workers * each)
    client: Any = redis.Redis.from_url(url)
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        command = [
            sys.executable, "-m", "rsq.supervisor.cli", "--workers", str(workers), "--redis", url,
            "--runtime-dir", folder, "--metrics", "127.0.0.1:0", "--log-level", "warning",
            f"rsq.bench.application:{handler}",
        ]  # fmt: skip
        process = subprocess.Popen(command)
        try:
            deadline = time.monotonic() + _WAIT_S
            while True:
                (group,) = client.xinfo_groups(rig.STREAM)
                if group["lag"] == 0 and group["pending"] == 0:
                    break
                if process.poll() is not None or time.monotonic() > deadline:
                    raise rig.Void(f"the pool did not come to its end: {group}")
                time.sleep(0.2)
            rig.check_all_acknowledged(url, workers * each)
            found: dict[str, float] = {}
            for one in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
                kind = one.cmdline()[0].split()[1]
                found[kind] = found.get(kind, 0.0) + pss_mb(one.pid)
            return found
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            process.wait(60)


def answer(scale: Scale) -> Answer:
    """Measure the application alone and pools of growing size, in turn."""
    each = scale.messages(MESSAGES)
    alone: list[float] = []
    pools: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    parts: dict[str, float] = {}
    wandering: list[float] = []
    with rig.server() as url:
        for run in range(scale.runs):
            alone.append(_alone())
            for workers in WORKERS if run == 0 else WORKERS[-1:]:
                parts = _pool(url, workers, each)
                pools[workers].append(sum(parts.values()))
        wandering.append(sum(_pool(url, WORKERS[-1], each, "wander").values()))
    most = WORKERS[-1]
    curve = [value for workers in WORKERS for value in (float(workers), pools[workers][0])]
    rows = tuple((kind, number(size)) for kind, size in parts.items())
    return Answer(
        "memory",
        QUESTION,
        METHOD,
        (
            Figure(f"{most} workers against one process", ratios(pools[most], alone), "times", at_most=1.5),
            Figure("the application alone", tuple(alone), "MB"),
            Figure(f"a pool of {most}", tuple(pools[most]), "MB"),
            Figure(f"a pool of {most}, other parts of the application each time", tuple(wandering), "MB"),
        ),
        (Table(f"A pool of {most}, by processes", ("processes", "MB"), rows),),
        (
            Plot(
                "memory", "lines", "Memory by workers", "workers", "MB (PSS)",
                {"rsq": curve, "a process each": [v for w in WORKERS for v in (float(w), w * alone[0])]},
                ours=("rsq",),
            ),
        ),
        notes=(_NOTE.format(each), _OWN),
    )  # fmt: skip


if __name__ == "__main__":
    from . import application

    application.handle(None)
    print(pss_mb(os.getpid()))
