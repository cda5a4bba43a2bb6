"""How long a pool takes from its exec to the first handled message."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import redis

from . import rig
from .answer import Answer, Figure, Scale, Table, number

QUESTION = "How long does a pool take from its start to the first handled message?"
METHOD = (
    "From the exec of the pool's program to the first line of the handler, as both read the same clock. The"
    " handler's module imports nothing that the pool does not, the stream has messages, files are in the page"
    " cache, the machine is not pinned. The first start is not counted: it compiles the modules. Parts"
    " are measured beside it as programs of their own."
)
STARTS, MESSAGES = 4, 20  # starts in each run
_NOTE = (
    "All but some 40 ms of a start are imports, more than half of these redis-py with all of its clients and"
    " asyncio, whether used or not. They are bound to a processor: on a machine whose cores are shared, the"
    " same start takes from 200 to 350 ms within one run. Less needs a redis-py that imports what is asked."
)
_APP = """
import os, time
def handle(message):
    with open(os.environ["RSQ_BENCH_REPORT"], "a") as report:
        report.write(f"{time.monotonic()}\\n")
"""
_PARTS = {
    "the interpreter": "pass",
    "... and redis-py": "import redis",
    "... and all of the pool's program": "import rsq.supervisor.cli",
}


def _start(url: str, workers: int, compiled: str) -> float:
    """Start a pool over a few messages; return the seconds to the first one.

    Arguments:
        url: of the server.
        workers: of the pool.
        compiled: a folder for compiled modules.
    """
    rig.preload(url, MESSAGES)
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        Path(folder, "quick.py").write_text(_APP)
        report = Path(folder, "report")
        command = [
            sys.executable, "-m", "rsq.supervisor.cli", "--workers", str(workers), "--redis", url,
            "--stop-when-empty", "--runtime-dir", folder, "--metrics", "127.0.0.1:0",
            "--log-level", "warning", "quick:handle",
        ]  # fmt: skip
        environment = {**_environment(compiled), "RSQ_BENCH_REPORT": str(report)}
        begun = time.monotonic()
        subprocess.run(command, env=environment, cwd=folder, check=True)
        times = [float(line) for line in report.read_text().splitlines()]
    if len(times) != MESSAGES:
        raise rig.Void(f"the handler was called {len(times)} times for {MESSAGES} messages")
    rig.check_all_acknowledged(url, MESSAGES)
    # Each pool is the first of its name: a lease that the one before has given back is not waited for.
    client: Any = redis.Redis.from_url(url)
    client.flushall()
    return min(times) - begun


def _environment(compiled: str) -> dict[str, str]:
    """Return an environment in which modules are compiled once, as an installed program's are."""
    found = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


def _part(code: str, compiled: str) -> float:
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code], env=_environment(compiled), check=True)
    return time.monotonic() - begun


def answer(scale: Scale) -> Answer:
    """Start pools of one and of eight workers in turn, and their parts."""
    one: list[float] = []
    eight: list[float] = []
    parts: dict[str, list[float]] = {name: [] for name in _PARTS}
    with rig.server() as url, tempfile.TemporaryDirectory(prefix="rsq-bench-") as compiled:
        _start(url, 1, compiled)
        for _ in range(scale.runs * STARTS):
            one.append(_start(url, 1, compiled) * 1000)
            eight.append(_start(url, 8, compiled) * 1000)
            for name, code in _PARTS.items():
                parts[name].append(_part(code, compiled) * 1000)
    rows = tuple(
        (name, number(sorted(found)[len(found) // 2]), number(min(found))) for name, found in parts.items()
    )
    return Answer(
        "start",
        QUESTION,
        METHOD,
        (
            Figure("start to first message, one worker", tuple(one), "ms", at_most=250),
            Figure("start to first message, eight workers", tuple(eight), "ms"),
        ),
        (Table("What of it is the start of Python", ("program", "median ms", "least ms"), rows),),
        notes=(_NOTE,),
    )
