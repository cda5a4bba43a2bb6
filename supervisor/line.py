"""The line: a helper's connection to Redis, over any number of sockets.

Nothing waits here for longer than it was told to, and whoever waits is seen to live all the time.
"""

from __future__ import annotations

import logging
import math
import random
import select
import time
from collections.abc import Callable
from typing import Any

from ..streams.connection import RedisError, Target, explain
from ..streams.wire import DescriptorsClosed, Lost, Wire

log = logging.getLogger("rsq.keeper")

_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.05, 1.0


class Line:
    """One connection that is made again when it breaks; commands are never sent twice."""

    def __init__(
        self,
        target: Target,
        name: str,
        patience_s: float,
        slice_s: float,
        turn: Callable[[], float],
        wake_fd: int,
    ) -> None:
        """Prepare; nothing is connected yet.

        Arguments:
            target: the server.
            name: of the connection, in CLIENT LIST.
            patience_s: longest wait for a reply; for connecting no more than a slice.
            slice_s: longest wait for connecting.
            turn: shows that this process lives, and empties `wake_fd`; returns when to call it again at the
                latest, whatever is waited for, in monotonic seconds.
            wake_fd: ends a wait when it becomes readable.
        """
        self._target, self._name, self._patience_s, self._slice_s = target, name, patience_s, slice_s
        self._turn, self._wake_fd = turn, wake_fd
        self._wire: Wire | None = None
        self._pause_s = _PAUSE_FIRST_S
        self.trouble = ""  # why there is no connection
        self.since = 0.0  # monotonic: since when

    def connect(self, *, rest: bool = True) -> bool:
        """Try once to have a connection; False when there is none.

        Arguments:
            rest: if so, return after a pause that grows; whoever is not to be held up rests elsewhere.
        """
        if self._wire is not None:
            return True
        try:
            self._wire = Wire(self._target, self._name, self._slice_s, (self._wake_fd,))
        except (RedisError, OSError) as error:
            if rest:
                self.fail(explain(error, self._target) if isinstance(error, RedisError) else str(error))
            return False
        return True

    def call(self, *packed: bytes) -> list[Any]:
        """Send commands in one write and return their replies; an error reply is a value.

        Raises:
            Lost: there is no connection, or it broke, or a reply did not come in time.
        """
        return self._ask(b"".join(packed), len(packed), self._patience_s)

    def listen(self, packed: bytes, seconds: float, leave: Callable[[], bool]) -> Any:
        """Send one command that the server may take that long to answer; None when it was given up.

        Arguments:
            packed: the command.
            seconds: how long the server was told to wait.
            leave: asked whenever something wakes us; the connection is closed if it says so.

        Raises:
            Lost: as in `call`.
        """
        replies = self._ask(packed, 1, seconds + self._patience_s, leave)
        return replies[0] if replies else None

    def _ask(
        self, packed: bytes, count: int, seconds: float, leave: Callable[[], bool] | None = None
    ) -> list[Any]:
        wire = self._wire
        replies: list[Any] = []
        if wire is None:
            raise Lost(self.trouble or "not connected")
        try:
            wire.send(packed)
            deadline = time.monotonic() + seconds
            pause = self._turn()
            while len(replies) < count:
                came, reply = wire.receive(deadline, pause)
                pause = self._turn()
                if came:
                    replies.append(reply)
                elif leave is not None and leave():
                    self.drop()
                    return []
        except (Lost, DescriptorsClosed) as error:
            self.drop()
            raise Lost(f"{self._target}: {error}") from error
        return replies

    def fine(self) -> None:
        """Note that the server has answered as it should."""
        self._pause_s, self.trouble, self.since = _PAUSE_FIRST_S, "", 0.0

    def fail(self, why: str) -> None:
        """Drop the connection, and wait before the next one."""
        self.drop()
        self.trouble, self.since = why, self.since or time.monotonic()
        self.rest(self._pause_s * (0.5 + random.random()))  # noqa: S311 - jitter
        self._pause_s = min(2 * self._pause_s, _PAUSE_MAX_S)

    def rest(self, seconds: float) -> None:
        """Wait; something that wakes us ends it."""
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        while True:
            pause, now = self._turn(), time.monotonic()
            if now >= deadline or poll.poll(max(0, math.ceil((min(deadline, pause) - now) * 1000))):
                self._turn()
                return

    def drop(self) -> None:
        """Close the connection: nothing that was sent is waited for."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None
