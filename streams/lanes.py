"""Lanes: the names under which a process sends, so that the server knows what it has had before.

One exchange at a time goes on in a lane, and they are numbered. The server keeps what the last one of a lane
did; so what it keeps is bounded by how many threads or tasks push at once, not by how much they push.

After an exchange that broke off, all lanes are new: what was sent may still be on its way, and must find the
server's memory of the lane as it was.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from .producerid import ProcessName, new_name


@dataclass(slots=True)
class Lane:
    """One lane.

    Arguments:
        token: of the process, unique among all that ever were.
        place: number among its lanes.
        number: how many exchanges it has had.
        broken: whether what was sent may still be on its way.
        producer: name of the lane for a server that remembers ids of producers: it outlives the process, and
            nobody else who lives has it. Empty unless asked for.
    """

    token: str
    place: int
    number: int = 0
    broken: bool = False
    producer: str = ""

    @property
    def name(self) -> str:
        """Return its name, unique among all lanes that ever were."""
        return f"{self.token}.{self.place}"


@dataclass(slots=True)
class _Generation:
    """The lanes since the last exchange that broke off."""

    token: str
    places: Iterator[int] = field(default_factory=count)
    free: list[Lane] = field(default_factory=list)


class Lanes:
    """The lanes of a process. Threads may share them; a forked child has lanes of its own."""

    def __init__(self, process: ProcessName | None = None) -> None:
        """Begin with none."""
        self._process = process or ProcessName()
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        # Re-entrant: a push that was given up is closed by the garbage collector, at any moment.
        self._lock = threading.RLock()
        self._now = _Generation(new_name())

    def take(self, *, named: bool = False) -> Lane:
        """Return a lane for the next exchange, numbered.

        Arguments:
            named: with the name of a producer.
        """
        # A child must not wait for a lock that a thread of its parent held.
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            now = self._now
            lane = now.free.pop() if now.free else Lane(now.token, next(now.places))
            lane.number += 1
            if named and not lane.producer:
                lane.producer = f"{self._process.get()}.{lane.place}"
        return lane

    def give(self, lane: Lane) -> None:
        """Take a lane back after its exchange."""
        if self._pid != os.getpid():
            return
        with self._lock:
            if lane.token != self._now.token:
                return
            if lane.broken:
                self._process.change()
                self._now = _Generation(new_name())
            else:
                self._now.free.append(lane)


OF_PROCESS = Lanes()
