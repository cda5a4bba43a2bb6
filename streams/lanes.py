"""Lanes: the names under which a producer sends, so that the server knows what it has had before.

One exchange at a time goes on in a lane, and they are numbered. The server keeps what the last one of a lane
did; so what it keeps is bounded by how many threads or tasks push at once, not by how much they push.

A lane whose exchange broke off is not used again: what was sent may still be on its way, and must find the
server's memory of the lane as it was.
"""

from __future__ import annotations

import os
import secrets
from collections import deque
from dataclasses import dataclass
from itertools import count


@dataclass(slots=True)
class Lane:
    """One lane: its name, unique among all producers, and how many exchanges it has had."""

    name: str
    number: int = 0


class Lanes:
    """The lanes of a producer. Threads may share it; a forked child has lanes of its own."""

    def __init__(self) -> None:
        """Begin with none."""
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._token = secrets.token_hex(6)
        self._made = count()
        self._free: deque[Lane] = deque()

    def take(self) -> Lane:
        """Return a lane for the next exchange, numbered."""
        if self._pid != os.getpid():
            self._begin()
        try:
            lane = self._free.pop()
        except IndexError:
            lane = Lane(f"{self._token}.{next(self._made)}")
        lane.number += 1
        return lane

    def give(self, lane: Lane) -> None:
        """Take a lane back whose exchange came to its end."""
        if lane.name.startswith(self._token):
            self._free.append(lane)
