"""What the pool adds to handlers that work for milliseconds."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import redis

from . import rig
from .answer import Answer, Figure, Scale

QUESTION = "How much time does the pool add to handlers that work for 1, 5 and 50 ms?"
METHOD = (
    "A preloaded stream, one worker with its defaults, a handler that keeps the core busy until its time is"
    " up and notes both ends. Overhead is what passes between the first start and the last end and is not"
    " within a handler, over the time within handlers: by the wall clock (waits for the server included, and"
    " all that the machine does meanwhile) and by the CPU time of the worker."
    " A bare loop on the protocol, without any guarantee, runs the same beside it."
)
_Row = tuple[float, float, float, float]  # clock and CPU seconds at a handler's start and end
_NOTE = (
    "A message of 50 ms is read alone, so each pays for a whole turn of the loop: six system calls and some"
    " hundred lines of Python, which take a multiple of their time when the core has done other work for"
    " 50 ms and its caches have forgotten them. The bare loop, with a tenth of the lines and no guarantee,"
    " pays for the same reason, and on this machine needs more than the target itself. To read one ahead"
    " would hide the wait for the server, a third of it, at the price of messages that lie behind a slow one."
)
_KINDS = ((1, 2_000, 0.02), (5, 400, 0.01), (50, 60, 0.003))  # ms of a handler, messages, target
_BATCH_MS = 50  # the bare loop reads as many at once as the pool's default does


def answer(scale: Scale) -> Answer:
    """Measure each kind of handler."""
    figures: dict[str, list[float]] = {}
    with rig.server() as url:
        for _ in range(scale.runs):
            for ms, usual, _ in _KINDS:
                messages = max(30, int(usual * scale.size))
                for who, run in (("", _pool), ("bare loop, ", _bare)):
                    _preload(url, ms, messages)
                    by_clock, by_cpu = _overhead(run(url, ms, messages), messages)
                    rig.check_all_acknowledged(url, messages)
                    name = f"{who}handler of {ms} ms"
                    figures.setdefault(f"{name}: wall clock beside it", []).append(by_clock * 100)
                    figures.setdefault(f"{name}: CPU beside it", []).append(by_cpu * 100)
    targets = {f"handler of {ms} ms: wall clock beside it": target * 100 for ms, _, target in _KINDS}
    order = sorted(figures, key=lambda name: (name.startswith("bare"), "CPU" in name))
    return Answer(
        "overhead",
        QUESTION,
        METHOD,
        tuple(Figure(name, tuple(figures[name]), "%", at_most=targets.get(name)) for name in order),
        notes=(_NOTE,),
    )


def _preload(url: str, ms: int, messages: int) -> None:
    rig.empty(url)
    client: Any = redis.Redis.from_url(url)
    pipe = client.pipeline(transaction=False)
    for _ in range(messages):
        pipe.xadd(rig.STREAM, {"data": str(ms)})
    pipe.execute()


def _pool(url: str, ms: int, messages: int) -> list[_Row]:
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        report = Path(folder, "report")
        with rig.pool(url, "rsq.bench.handlers:works", "--workers", "1", RSQ_BENCH_REPORT=str(report)):
            rig.wait_until_acknowledged(url, 30 + messages * ms / 500)
        return cast("list[_Row]", json.loads(report.read_text()))


def _bare(url: str, ms: int, messages: int) -> list[_Row]:
    _, core = rig.cores()
    command = [sys.executable, "-m", "rsq.bench.raw", "work", url, str(max(1, _BATCH_MS // ms))]
    done = subprocess.run(
        command, preexec_fn=lambda: rig.pin(core), stdout=subprocess.PIPE, check=True, text=True
    )
    return cast("list[_Row]", json.loads(done.stdout))


def _overhead(rows: list[_Row], messages: int) -> tuple[float, float]:
    """Return the overhead by the clock and by CPU time, as shares."""
    if len(rows) != messages:
        raise rig.Void(f"the handler was called {len(rows)} times for {messages} messages")
    inside = sum(end - start for start, end, _, _ in rows)
    burnt = sum(end - start for _, _, start, end in rows)
    return (rows[-1][1] - rows[0][0]) / inside - 1, (rows[-1][3] - rows[0][2]) / burnt - 1
