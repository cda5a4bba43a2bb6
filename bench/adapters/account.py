"""The account: a small file, shared by all processes of a run, that says what happened to each message.

Per message the time when it was sent, the time when it was first begun, a byte that counts how often it
was begun, and a byte that tells whether it became a dead letter. Times are of the machine's monotonic
clock, in seconds.
"""

from __future__ import annotations

import mmap
import os
import signal
import time
from pathlib import Path
from typing import Any

FIRST = 10_000_000  # the number of message 0, so that every payload has 100 bytes
PAYLOAD = {"order": FIRST, "customer": "c-1234567", "total": 12.5, "currency": "EUR", "note": "x" * 19}
FATAL = 545  # which of each thousand kills its process, where a run is about that: amid a batch


def payload(number: int) -> dict[str, Any]:
    """Return the data of a message."""
    return {**PAYLOAD, "order": FIRST + number}


def fatal(number: int) -> bool:
    """Tell whether a message kills its process."""
    return number % 1000 == FATAL


class Account:
    """A view on the file; `Account(path, messages)` makes it, `Account(path)` opens it."""

    def __init__(self, path: Path, messages: int = 0) -> None:
        """Map the file."""
        if messages:
            path.write_bytes(bytes(18 * messages))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.messages = count = len(self._map) // 18
        whole = memoryview(self._map)
        self.sent = whole[: 8 * count].cast("d")
        self.begun = whole[8 * count : 16 * count].cast("d")
        self.times = whole[16 * count : 17 * count]
        self.buried = whole[17 * count :]

    @property
    def handled(self) -> int:
        """How many different messages were begun."""
        return self.messages - self._map[16 * self.messages : 17 * self.messages].count(0)


def _tally(data: dict[str, Any]) -> None:
    """The no-op handler: an empty function would not tell whether it was called."""
    _times[data["order"] - FIRST] += 1


def _timed(data: dict[str, Any]) -> None:
    """Note also when a message was begun first."""
    number = data["order"] - FIRST
    if not _begun[number]:
        _begun[number] = time.monotonic()
    _times[number] += 1


def _deadly(data: dict[str, Any]) -> None:
    """Kill the process at some messages, whenever they come."""
    _timed(data)
    if fatal(data["order"] - FIRST):
        os.kill(os.getpid(), signal.SIGKILL)


def buried(data: dict[str, Any]) -> None:
    """Note that a message has become a dead letter."""
    _account.buried[data["order"] - FIRST] = 1


HANDLERS = {"tally": _tally, "timed": _timed, "deadly": _deadly}
handled = HANDLERS[os.environ.get("RSQ_BENCH_HANDLER", "tally")]
if "RSQ_BENCH_ACCOUNT" in os.environ:
    _account = Account(Path(os.environ["RSQ_BENCH_ACCOUNT"]))
    _begun, _times = _account.begun, _account.times
