"""The gallery: the pools that an exporter shows, and whether what keeps them is alive."""

from __future__ import annotations

import contextlib
import math
import mmap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from ..ipc.cells import P
from ..ipc.segment import Segment, SegmentError


class Hung(NamedTuple):
    """A pool that is shown: its name, empty where there is only one, and its segment."""

    name: str
    segment: Segment


class Gallery(Protocol):
    """What an exporter shows."""

    names: Sequence[str]  # of all pools that are to be shown
    who: str  # keeps them

    def pools(self) -> Sequence[Hung]:
        """Return those that can be shown now; from any thread."""

    def look(self) -> None:
        """Look for pools that have come."""

    def heartbeat_s(self) -> float:
        """Return the age of the last full pass of what keeps the pools, infinite when there was none."""

    def lost_lines(self) -> Mapping[str, int]:
        """Return process -> lines of the log that it dropped, of those that belong to no single pool."""


class One:
    """A pool without a root: its master is what keeps it."""

    names: Sequence[str] = ("",)
    who = "the master"

    def __init__(self, segment: Segment) -> None:
        """Show an open segment."""
        self._pools = (Hung("", segment),)

    def pools(self) -> Sequence[Hung]:
        """Return the pool."""
        return self._pools

    def look(self) -> None:
        """Do nothing: it is there."""

    def heartbeat_s(self) -> float:
        """Return the age of the master's last full pass."""
        return _age(self._pools[0].segment.pool.real[P.HEARTBEAT])

    def lost_lines(self) -> Mapping[str, int]:
        """Return nothing: the pool's cells have it."""
        return {}


class Many:
    """The pools under a root: each segment is opened when its master has made it."""

    who = "the root"

    def __init__(self, places: Sequence[tuple[str, Path]], heartbeat: Heartbeat, *, writable: bool) -> None:
        """Show what is there; see `look`.

        Arguments:
            places: name and segment of each pool.
            heartbeat: of the root.
            writable: open them so that pipes can be read.
        """
        self.names: Sequence[str] = [name for name, _ in places]
        self._places, self._heartbeat, self._writable = places, heartbeat, writable
        self._open: dict[str, tuple[tuple[int, ...], Segment]] = {}
        self._pools: Sequence[Hung] = ()

    def pools(self) -> Sequence[Hung]:
        """Return those whose segment is there, in the order of the settings."""
        return self._pools

    def look(self) -> None:
        """Open segments that are new, whose place another file has taken, or that have grown."""
        for name, path in self._places:
            with contextlib.suppress(OSError, SegmentError):  # not made yet, or about to be
                found = path.stat()
                file = (found.st_dev, found.st_ino, found.st_size)
                if name not in self._open or self._open[name][0] != file:
                    # The old one stays mapped: a thread may be reading it.
                    self._open[name] = (file, Segment.attach(path, writable=self._writable))
        self._pools = [Hung(name, self._open[name][1]) for name in self.names if name in self._open]

    def heartbeat_s(self) -> float:
        """Return the age of the root's last full pass."""
        return _age(self._heartbeat.last)

    def lost_lines(self) -> Mapping[str, int]:
        """Return what the root and its exporter have dropped."""
        return dict(zip(("root", "exporter"), self._heartbeat.lost, strict=True))


class Heartbeat:
    """What a root and its exporter share: when its last full pass was, and what each dropped of the log."""

    def __init__(self) -> None:
        """Make the memory: children have to be forked after that."""
        raw = memoryview(mmap.mmap(-1, mmap.PAGESIZE))
        self._cell = raw.cast("d")
        self.lost = raw.cast("Q")[1:3]  # lines: the root's, the exporter's

    def beat(self) -> None:
        """Note a pass."""
        self._cell[0] = time.monotonic()

    @property
    def last(self) -> float:
        """Return the monotonic time of the last one, 0 when there was none."""
        return self._cell[0]


def _age(beat: float) -> float:
    now = time.monotonic()
    return max(0.0, now - beat) if 0 < beat <= now + 1 else math.inf
