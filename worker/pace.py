"""How many entries to read at once, learnt from how long the handler takes. Pure.

A read brings about `batch_s` seconds of work: one entry of a slow handler, so that nobody waits
behind it while a neighbour is idle, and hundreds of a fast one. It grows by no more than half:
a guess from a few entries may be wrong, and of a burst that meets an idle pool nobody gets much more
than the others. It shrinks at once. While a neighbour is idle a read brings a few milliseconds of work
only: what comes in the meantime is the neighbour's. But where reads bring all they ask for, who looks idle
only waits for its own.
"""

from __future__ import annotations

from collections.abc import Callable

from .quota import UNLIMITED, Quota
from .spec import Reading

_GROWTH = 1.5
_BYTES_MAX = 16 << 20  # of one reply: large payloads are read few at a time
_KEEP = 0.7  # weight of the past when the handler gets faster
_SHARE_S = 0.005  # of work in a batch, while a neighbour is idle
READ_AHEAD_FROM = 8  # below this a batch is worth many round trips, and hoarding would show


class Pace:
    """The smoothed cost of an entry, and the COUNT that follows from it."""

    def __init__(
        self, reading: Reading, handler_s: float, entry_bytes: float, quota: Quota | None = None
    ) -> None:
        """Begin where the predecessor stopped; zeros when nothing is known.

        Arguments:
            quota: of this process; None for no limit.
        """
        self._reading, self._quota = reading, quota
        self.handler_s, self.entry_bytes = handler_s, entry_bytes
        self._last = reading.batch_max if handler_s else 0
        self._full = False  # the last read brought all it asked for: there is more for everybody

    def count(self, room: int, idle: Callable[[], bool] = lambda: False, least: int = 1) -> int:
        """Return COUNT for the next read.

        Arguments:
            room: at most so many.
            idle: tells whether a neighbour has nothing to do; asked only if that matters.
            least: so many are wanted to handle them together.
        """
        wanted = 1
        if self.handler_s:
            work = self._reading.batch_s / self.handler_s
            wanted = int(min(work, max(self._last + 1, self._last * _GROWTH), self._reading.batch_max))
        if not self._full and wanted > 1 and wanted * self.handler_s > _SHARE_S and idle():
            wanted = int(_SHARE_S / self.handler_s)
        wanted = max(wanted, least)
        if self.entry_bytes:
            wanted = min(wanted, int(_BYTES_MAX / self.entry_bytes))
        return max(1, min(wanted, room, self.left))

    @property
    def left(self) -> int:
        """Return how many entries this process may handle at most."""
        return UNLIMITED if self._quota is None else max(1, self._quota.left)

    def opened(self, entries: int) -> None:
        """Learn how many entries a batch has."""
        self._last = entries

    def handled(self, entries: int, seconds: float) -> None:
        """Learn from a finished part of a batch."""
        if not entries:
            return
        mean = seconds / entries
        slower = mean >= self.handler_s
        self.handler_s = mean if slower else _KEEP * self.handler_s + (1 - _KEEP) * mean

    def received(self, entries: int, size: int, asked: int) -> None:
        """Learn from a reply of `size` bytes to a read that asked for so many entries."""
        self._full = entries >= asked >= READ_AHEAD_FROM
        if entries:
            self.entry_bytes = size / entries

    def ahead(self, got: int, asked: int) -> bool:
        """Tell whether to send the next read before this batch is handled.

        Only while the stream has more than we take and the whole batch is short work.
        """
        return self.left > got >= asked >= READ_AHEAD_FROM and got * self.handler_s <= self._reading.batch_s
