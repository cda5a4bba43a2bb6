"""Handlers that benches run in a real pool."""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import TextIO

from ..streams.entry import Message
from .rig import cpu_s

_count = 0
_first = 0.0
busy: list[tuple[float, float, float, float]] = []  # clock and CPU seconds at a handler's start and end
_delays: dict[int, float] = {}  # number of a message -> seconds from XADD to the handler's start


def noop(message: Message) -> None:
    """Do nothing but be counted: an empty function would not tell whether it was called."""
    global _count
    _count += 1


def arrives(message: Message) -> None:
    """Note how long a message has been on its way."""
    now = time.monotonic()
    number, added = message.data
    if number in _delays:
        raise ValueError(f"message {number} came twice")
    _delays[number] = now - added


def works(message: Message) -> None:
    """Keep the core busy for as many milliseconds as the message says."""
    cpu, start = time.process_time(), time.monotonic()
    until = start + message.data / 1000
    while time.monotonic() < until:
        pass
    busy.append((start, time.monotonic(), cpu, time.process_time()))


def worker_start() -> None:
    """Start the clock."""
    global _first
    _first = time.monotonic()


def worker_stop() -> None:
    """Write down what this worker process has used since its fork."""
    path = os.environ.get("RSQ_BENCH_REPORT")
    if path and _count:
        words = {"messages": _count, "cpu_s": cpu_s(), "wall_s": time.monotonic() - _first}
        Path(path).write_text(json.dumps(words))
    if path and _delays:
        Path(path).write_text(json.dumps(list(_delays.values())))
    if path and busy:
        Path(path).write_text(json.dumps(busy))


def dies(message: Message) -> None:
    """Kill the process at every hundredth message, once, and note both sides of the gap in a file."""
    with Path(os.environ["RSQ_BENCH_REPORT"]).open("a") as report:
        if message.data["n"] % 100 == 50 and message.attempt == 1:
            report.write(f"crash {time.monotonic()}\n")
            report.flush()
            os.kill(os.getpid(), 9)
        report.write(f"handled {time.monotonic()}\n")


def takes(message: Message) -> None:
    """Sleep for as long as the message says, and note when it is done, in a file of this process."""
    time.sleep(message.data["s"])
    _done().write(f"{message.data['n']} {time.monotonic()}\n")


@functools.cache
def _done() -> TextIO:
    return Path(os.environ["RSQ_BENCH_REPORT"], f"done-{os.getpid()}").open("w", buffering=1)
