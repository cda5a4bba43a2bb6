"""What the pool adds to handlers that work for milliseconds."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import redis

from . import rig
from .answer import Answer, Figure, Scale

QUESTION = "How much time does the pool add to handlers that work for 1, 5 and 50 ms?"
METHOD = (
    "A preloaded stream, one worker with its defaults, a handler that keeps the core busy until its time is"
    " up and notes both ends. Overhead is what passes between the first start and the last end and is not"
    " within a handler, over the time within handlers: by the wall clock (waits for the server included, and"
    " all that the machine does meanwhile) and by the CPU time of the worker."
)
_KINDS = ((1, 2_000, 0.02), (5, 400, 0.01), (50, 60, 0.003))  # ms of a handler, messages, target


def answer(scale: Scale) -> Answer:
    """Measure each kind of handler."""
    wall: dict[int, list[float]] = {ms: [] for ms, _, _ in _KINDS}
    cpu: dict[int, list[float]] = {ms: [] for ms, _, _ in _KINDS}
    with rig.server() as url:
        for _ in range(scale.runs):
            for ms, usual, _ in _KINDS:
                messages = max(30, int(usual * scale.size))
                by_clock, by_cpu = _overhead(url, ms, messages)
                rig.check_all_acknowledged(url, messages)
                wall[ms].append(by_clock * 100)
                cpu[ms].append(by_cpu * 100)
    return Answer(
        "overhead",
        QUESTION,
        METHOD,
        tuple(
            Figure(f"handler of {ms} ms: wall clock beside it", tuple(wall[ms]), "%", at_most=target * 100)
            for ms, _, target in _KINDS
        )
        + tuple(
            Figure(f"handler of {ms} ms: worker CPU beside it", tuple(cpu[ms]), "%") for ms, _, _ in _KINDS
        ),
    )


def _overhead(url: str, ms: int, messages: int) -> tuple[float, float]:
    """Return the overhead by the clock and by CPU time, as shares."""
    rig.empty(url)
    client: Any = redis.Redis.from_url(url)
    pipe = client.pipeline(transaction=False)
    for _ in range(messages):
        pipe.xadd(rig.STREAM, {"data": str(ms)})
    pipe.execute()
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        report = Path(folder, "report")
        with rig.pool(url, "rsq.bench.handlers:works", "--workers", "1", RSQ_BENCH_REPORT=str(report)):
            rig.wait_until_acknowledged(url, 30 + messages * ms / 500)
        rows: list[tuple[float, float, float, float]] = json.loads(report.read_text())
    if len(rows) != messages:
        raise rig.Void(f"the handler was called {len(rows)} times for {messages} messages")
    inside = sum(end - start for start, end, _, _ in rows)
    burnt = sum(end - start for _, _, start, end in rows)
    return (rows[-1][1] - rows[0][0]) / inside - 1, (rows[-1][3] - rows[0][2]) / burnt - 1
