"""The share of one process: so many messages, or so much growth, and then a fresh one takes its place.

The worker looks itself, after each call of a handler, and starts nothing more: what it has not started is
handed back when it drains. Without a limit no call is wrapped, so nobody pays for it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import psutil

from .verdict import BreakerOpen, Ignored

UNLIMITED = 1 << 62
_LOOK_S = 0.001  # between two looks at the memory: each takes some microseconds
_SLOW_LOOK_S = 0.05  # where the kernel has no /proc
_JITTER = 0.1  # so that slots which began together do not end together


class Quota:
    """What this process may still do.

    Attributes:
        left: how many messages.
        reason: why it is over, empty while it is not.
    """

    def __init__(self, messages: int, growth: int, stopping: list[str]) -> None:
        """Draw this process's limits, each up to a tenth below what is asked for.

        Arguments:
            messages: most messages of one process; 0 for no limit.
            growth: bytes by which it may grow; 0 for no limit.
            stopping: a word is added here when the quota is used up.
        """
        draw = 1 - _JITTER * random.random()  # noqa: S311 - no secret
        self._messages = max(1, round(messages * draw)) if messages else UNLIMITED
        self.left, self.reason = self._messages, ""
        self._growth, self._stopping = round(growth * draw), stopping
        self._base = self._due = 0.0

    @property
    def is_limited(self) -> bool:
        """Tell whether there is any limit."""
        return self._messages < UNLIMITED or bool(self._growth)

    def begin(self) -> None:
        """Take the memory of this moment for what the process needs."""
        if self._growth:
            self._base = _resident()

    def counted(self, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a handler's call that is looked at when it is over."""

        def counted(message: Any) -> Any:
            used = 1
            try:
                return call(message)
            except (BreakerOpen, Ignored):
                used = 0  # no handler was called
                raise
            finally:
                self._look(used)

        return counted

    def counted_batch(self, call: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return the same for the call of a batch handler."""

        def counted_batch(messages: Any) -> Any:
            try:
                return call(messages)
            finally:
                self._look(len(messages))

        return counted_batch

    def _look(self, used: int) -> None:
        self.left -= used
        if self.reason:
            return
        if self.left <= 0:
            self._end(f"{self._messages - self.left} messages")
        elif self._growth and (now := monotonic()) >= self._due:
            resident = _resident()
            self._due = now + (_LOOK_S if _HAS_PROC else _SLOW_LOOK_S)
            if resident - self._base > self._growth:
                self._end(f"grown by {int(resident - self._base) >> 20} MiB")

    def _end(self, reason: str) -> None:
        self.reason = reason
        self._stopping.append("recycled")


_HAS_PROC = Path("/proc/self/statm").exists()
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _resident() -> float:
    """Return the resident bytes of this process."""
    if not _HAS_PROC:
        return float(psutil.Process().memory_info().rss)
    try:  # opened anew: a descriptor that is kept may be closed by user code, and another's then
        fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0.0  # no descriptor left: nothing is known for the moment
    try:
        return float(os.read(fd, 128).split()[1]) * _PAGE
    finally:
        os.close(fd)
