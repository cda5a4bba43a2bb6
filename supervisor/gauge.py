"""The gauge: what waits for a group, measured by the keeper of a pool that scales itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from ..ipc.cells import K, Keep, Part
from ..streams import unread
from .complaints import Complaints
from .scaling import Scale

_EVERY_MAX_S = 2.0
_MOST, _STEP, _BYTES = 1000, 500, 4 << 20  # counted where the server does not know the lag


class Gauge:
    """Writes into the segment what Redis says of the backlog and of the fleet's size."""

    def __init__(
        self,
        scale: Scale | None,
        keep: Keep,
        stream: str,
        group: str,
        call: Callable[..., list[Any]],
        complaints: Complaints,
    ) -> None:
        """Measure nothing yet, and never where the pool does not scale itself.

        Arguments:
            scale: of the pool.
            keep: where to write.
            stream, group: names.
            call: asks the server.
            complaints: where errors go.
        """
        self._complaints = complaints
        self._view, self._real, self._stream, self._group = keep.view, keep.real, stream, group
        self._call = call
        self._every_s = math.inf if scale is None else min(_EVERY_MAX_S, scale.look_s)
        self.due = math.inf if scale is None else 0.0  # monotonic

    def measure(self) -> None:
        """Measure the backlog if it is time.

        Raises:
            Lost: the connection broke.
        """
        now = time.monotonic()
        if now < self.due:
            return
        self.due = now + self._every_s
        self._real[K.UNREAD_AT] = 0.0
        (reply,) = self._call(unread.groups(self._stream))
        if isinstance(reply, Exception) and "no such key" not in str(reply):
            self._complaints.add(Part.BACKLOG, reply)
        found = None if isinstance(reply, Exception) else unread.lag(reply, self._group)
        if found is None:  # whoever makes the group again does not leave it so
            return
        count, last = found
        exact, oldest_s = True, 0.0
        if count != 0:
            clock, first = self._call(*unread.first(self._stream, last))
            for reply in (clock, first):
                if isinstance(reply, Exception):
                    self._complaints.add(Part.BACKLOG, reply)
                    return
            if not first:  # some servers say otherwise for ever, after entries were removed
                count = 0
            elif count is None:
                oldest_s = unread.age_s(clock, first)
                count, exact = self._count(last)
        self._view[K.UNREAD], self._view[K.UNREAD_SURE] = count, exact
        self._real[K.UNREAD_S] = oldest_s
        self._real[K.UNREAD_AT] = time.monotonic()
        self._complaints.over(Part.BACKLOG)

    def count_fleet(self) -> None:
        """Find out how many slots all living instances want; after each beat.

        Raises:
            Lost: the connection broke.
        """
        if self.due == math.inf:
            return
        (reply,) = self._call(unread.instances(self._stream, self._group))
        if isinstance(reply, Exception) or not reply:
            return
        reports = unread.reports(reply)
        names = list(reports)
        (leases,) = self._call(unread.leases(self._stream, self._group, names)) if names else ([],)
        if not isinstance(leases, Exception):
            alive = (name for name, lease in zip(names, leases, strict=True) if lease is not None)
            self._view[K.FLEET] = sum(len(reports[name].slots) for name in alive)

    def _count(self, last: bytes) -> tuple[int, bool]:
        """Count what comes after an id; return how many, and whether these are all."""
        total = size = 0
        after: bytes | None = last
        while after is not None and total < _MOST and size < _BYTES:
            (reply,) = self._call(unread.count(self._stream, after, _STEP, _BYTES - size))
            if isinstance(reply, Exception):
                return total, False
            found, seen, after = reply
            total, size = total + found, size + seen
        return total, after is None
