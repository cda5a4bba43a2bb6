"""A handler whose every process says what it has used, for pools of many workers."""

from __future__ import annotations

import json
import os

from ..streams.entry import Message
from .rig import cpu_s

EACH = 256
_count = 0
_started_s = _first_s = _last_s = 0.0


def noop(message: Message) -> None:
    """Do nothing but be counted, and look at the clock now and then: the wait for an end is no handling."""
    global _count, _first_s, _last_s
    if not _count % EACH:
        _last_s = cpu_s()
        _first_s = _first_s or _last_s
    _count += 1


def worker_start() -> None:
    """Note what the fork has cost; recovery is still to come."""
    global _started_s
    _started_s = cpu_s()


def worker_stop() -> None:
    """Add a line to the report: messages, CPU seconds since recovery began; and of a part of them alone."""
    words = {
        "messages": _count,
        "cpu_s": cpu_s() - _started_s,
        "part": max(0, _count - 1) // EACH * EACH,
        "part_s": _last_s - _first_s,
    }
    report = os.open(os.environ["RSQ_BENCH_REPORT"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(report, json.dumps(words).encode() + b"\n")  # one write: lines of many processes do not mix
    os.close(report)
