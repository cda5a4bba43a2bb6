"""What producers have done: one meter each, and one for all of a process."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass

WINDOW_S = 60


@dataclass(frozen=True)
class ProducerMetrics:
    """What a producer has done since it was made (in this process).

    Attributes:
        pushed: messages confirmed by the server.
        duplicates: pushes with `unique` whose message was there already.
        rejected: messages that were not pushed because the stream was full.
        resent: batches that were sent again after their connection broke, and are in the stream once.
        rate_60s: messages per second over the last minute, or over the uptime if that is shorter.
        average_per_s: messages per second over the uptime.
        uptime_s: seconds.
    """

    pushed: int
    duplicates: int
    rejected: int
    resent: int
    rate_60s: float
    average_per_s: float
    uptime_s: float


class Meter:
    """Counts, in total and per second of the last minute, for many threads; a forked child begins anew."""

    def __init__(self) -> None:
        """Begin now."""
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._pushed = self._duplicates = self._rejected = self._resent = 0
        self._seconds: deque[tuple[int, int]] = deque()  # second, pushed in it

    def add(
        self, pushed: int, now: float, *, duplicates: int = 0, rejected: int = 0, resent: int = 0
    ) -> None:
        """Count.

        Arguments:
            pushed: messages that the server has confirmed.
            now: monotonic.
            duplicates, rejected, resent: see `ProducerMetrics`.
        """
        # A child counts what it pushes itself, and must not wait for a lock that a thread of its parent held.
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            self._pushed += pushed
            self._duplicates += duplicates
            self._rejected += rejected
            self._resent += resent
            second = int(now)
            if self._seconds and self._seconds[-1][0] == second:
                pushed += self._seconds.pop()[1]
            self._seconds.append((second, pushed))
            self._forget(second)

    def metrics(self, now: float) -> ProducerMetrics:
        """Return what was counted until now (monotonic)."""
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            self._forget(int(now))
            recent = sum(count for _, count in self._seconds)
            uptime = now - self._started
            return ProducerMetrics(
                pushed=self._pushed,
                duplicates=self._duplicates,
                rejected=self._rejected,
                resent=self._resent,
                rate_60s=recent / min(uptime, WINDOW_S) if uptime > 0 else 0.0,
                average_per_s=self._pushed / uptime if uptime > 0 else 0.0,
                uptime_s=max(0.0, uptime),
            )

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] <= second - WINDOW_S:
            self._seconds.popleft()


OF_PROCESS = Meter()


def producer_metrics() -> ProducerMetrics:
    """Return what all producers of this process have done together, those that are closed too."""
    return OF_PROCESS.metrics(time.monotonic())
