"""From the crash of a warm worker to its slot's next handled message."""

from __future__ import annotations

import statistics
import tempfile
from itertools import chain
from pathlib import Path

from ..streams.producer import Producer
from . import rig
from .answer import Answer, Figure, Plot, Scale

QUESTION = "How long after the crash of a warm worker does its slot handle the next message?"
METHOD = (
    "A pool of one worker; every hundredth message kills its process with SIGKILL at its first attempt. The"
    " gap is from just before the kill to the start of the next message in the slot: the master has learnt of"
    " the death and forked a successor, which has connected, put the journal in order and claimed what was"
    " left."
)
CRASHES = 30


def answer(scale: Scale) -> Answer:
    """Crash one worker many times, in each of some runs."""
    crashes = max(5, int(CRASHES * scale.size))
    with rig.server() as url:
        runs = [_gaps(url, crashes) for _ in range(scale.runs)]
    return Answer(
        "recovery",
        QUESTION,
        METHOD,
        (
            Figure("crash to next message, median", tuple(map(statistics.median, runs)), "ms", at_most=20.0),
            Figure("the fastest", tuple(map(min, runs)), "ms"),
            Figure("the slowest", tuple(map(max, runs)), "ms"),
        ),
        plots=(
            Plot(
                "recovery",
                "shares",
                "From the crash of a worker to its slot's next message",
                "ms",
                "share of crashes",
                {"rsq-supervisor": list(chain(*runs))},
                ours=("rsq-supervisor",),
            ),
        ),
    )


def _gaps(url: str, crashes: int) -> list[float]:
    """Return the milliseconds of the gaps of one pool's life."""
    rig.empty(url)
    messages = 100 * crashes
    with Producer(url, rig.STREAM) as producer:
        producer.push_many({"n": n} for n in range(messages))
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        report = Path(folder, "report")
        with rig.pool(url, "rsq.bench.handlers:dies", "--workers", "1", RSQ_BENCH_REPORT=str(report)):
            rig.wait_until_acknowledged(url, 60)
        lines = [line.split() for line in report.read_text().splitlines()]
    handled, gaps, crashed = 0, [], 0.0
    for word, at in lines:
        if word == "crash":
            crashed = float(at)
            continue
        handled += 1
        if crashed:
            gaps.append((float(at) - crashed) * 1000)
            crashed = 0.0
    if (len(gaps), handled) != (crashes, messages):
        raise rig.Void(f"{len(gaps)} gaps for {crashes} crashes, {handled} of {messages} messages handled")
    return gaps
