"""From XADD to the start of the handler in an idle pool, beside a blocking read on the bare protocol."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any

import redis

from . import rig
from .answer import Answer, Figure, Plot, Scale, ratios

QUESTION = "How long is a message on its way to an idle worker, beside a bare blocking read?"
METHOD = (
    "A process beside the server sends 200 messages a second, one by one, each with the time of its XADD. A"
    " pool of one worker, with its defaults, notes when the handler starts; a loop on the bare protocol"
    " (XREADGROUP BLOCK, the acknowledgement with the next read) notes when it has decoded the message."
    " Server and reader are pinned to different cores; the sides run in turn."
)
_NOTE = (
    "Between the reply and the handler lie some 0.07 ms of our Python, run once for each message"
    " here: the reply is parsed, the batch is journalled, the message is made. The bare read does"
    " none of it."
)
MESSAGES, RATE, WARM_UP = 1_500, 200, 50


def answer(scale: Scale) -> Answer:
    """Measure pool and bare read in turn."""
    messages = scale.messages(MESSAGES)
    ours, bare = [], []
    with rig.server() as url:
        for _ in range(scale.runs):
            ours.append(_pool(url, messages))
            rig.check_all_acknowledged(url, messages)
            bare.append(_bare(url, messages))
            rig.check_all_acknowledged(url, messages)
    halves = [[statistics.median(delays) for delays in side] for side in (ours, bare)]
    tails = [[statistics.quantiles(delays, n=100)[-1] for delays in side] for side in (ours, bare)]
    return Answer(
        "latency",
        QUESTION,
        METHOD,
        (
            Figure("p50 against a bare blocking read", ratios(*halves), "times", at_most=1.2),
            Figure("p99 against a bare blocking read", ratios(*tails), "times", at_most=1.5),
            Figure("the pool, p50", tuple(halves[0]), "ms"),
            Figure("a bare blocking read, p50", tuple(halves[1]), "ms"),
            Figure("the pool, p99", tuple(tails[0]), "ms"),
            Figure("a bare blocking read, p99", tuple(tails[1]), "ms"),
        ),
        plots=(
            Plot(
                "latency",
                "shares",
                f"XADD to handler start, {RATE} messages a second into an idle worker",
                "ms",
                "share of messages",
                {"rsq-supervisor": list(chain(*ours)), "bare blocking read": list(chain(*bare))},
                log_x=True,
                ours=("rsq-supervisor",),
            ),
        ),
        notes=(_NOTE,),
    )


def _pool(url: str, messages: int) -> list[float]:
    rig.empty(url)
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        report = Path(folder, "report")
        with rig.pool(url, "rsq.bench.handlers:arrives", "--workers", "1", RSQ_BENCH_REPORT=str(report)):
            _send(url, messages)
            rig.wait_until_acknowledged(url, 30)
        return _delays(json.loads(report.read_text()), messages)


def _bare(url: str, messages: int) -> list[float]:
    rig.empty(url)
    _, core = rig.cores()
    command = [sys.executable, "-m", "rsq.bench.raw", "wait", url]
    reader = subprocess.Popen(command, preexec_fn=lambda: rig.pin(core), stdout=subprocess.PIPE, text=True)
    client: Any = redis.Redis.from_url(url)
    while not client.info("clients")["blocked_clients"]:
        time.sleep(0.02)
    _send(url, messages)
    said, _ = reader.communicate(timeout=30)
    return _delays(json.loads(said), messages)


def _send(url: str, messages: int) -> None:
    core, _ = rig.cores()
    command = [sys.executable, "-m", "rsq.bench.sender", url, str(messages), str(RATE)]
    subprocess.run(command, preexec_fn=lambda: rig.pin(core), check=True)


def _delays(seconds: list[float], messages: int) -> list[float]:
    """Return milliseconds, without those of the first messages, on which every process warms up."""
    if len(seconds) != messages:
        raise rig.Void(f"{len(seconds)} of {messages} messages were handled")
    return [value * 1000 for value in seconds[WARM_UP:]]
