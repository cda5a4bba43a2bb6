"""The line: a helper's connection to Redis, over any number of sockets.

A reply that says that this is the wrong server ends the connection, whatever was asked. Nothing waits here
for longer than it was told to, and whoever waits is seen to live all the time.
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
from ..streams.lookout import EVERY_S, lookout
from ..streams.wire import DescriptorsClosed, Lost, Wire, WrongServer, heed

log = logging.getLogger("rsq.keeper")

_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.05, 1.0
_ROLE = b"*1\r\n$4\r\nROLE\r\n"


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
        *,
        asks_role: bool = False,
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
            asks_role: make sure now and then that the server is no replica: where it would not say so by
                itself, since all that is asked for a while may only read.
        """
        self._target, self._name, self._patience_s, self._slice_s = target, name, patience_s, slice_s
        self._turn, self._wake_fd = turn, wake_fd
        self._wire: Wire | None = None
        self._lookout = lookout(target, slice_s)
        self._role_due = 0.0 if asks_role and target.way == "direct" else math.inf  # monotonic
        self._pause_s = _PAUSE_FIRST_S
        self.trouble = ""  # why there is no connection

    def connect(self, *, rest: bool = True) -> bool:
        """Try once to have a connection; False when there is none.

        Arguments:
            rest: if so, return after a pause that grows; whoever is not to be held up rests elsewhere.
        """
        if self._wire is not None:
            return True
        try:
            self._wire = Wire(self._target, self._name, self._slice_s, (self._wake_fd,), self._lookout)
        except (RedisError, OSError) as error:
            words = explain(error, self._target) if isinstance(error, RedisError) else str(error)
            if rest:
                self.fail(words)
            else:
                self.trouble = words
            return False
        if not rest:
            self.trouble = ""
        return True

    def call(self, *packed: bytes) -> list[Any]:
        """Send commands in one write and return their replies; an error reply is a value.

        Raises:
            WrongServer: one of them says so; the connection is closed.
            Lost: there is no connection, or it broke, or a reply did not come in time.
        """
        if time.monotonic() < self._role_due:
            return self._ask(b"".join(packed), len(packed), self._patience_s)
        role, *replies = self._ask(_ROLE + b"".join(packed), 1 + len(packed), self._patience_s)
        if isinstance(role, Exception):  # nobody may ask
            self._role_due = math.inf
        elif role[0] == b"slave":
            self.drop()
            raise WrongServer(explain(WrongServer("READONLY by its role"), self._target))
        else:
            self._role_due = time.monotonic() + EVERY_S
        return replies

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
            for reply in replies:
                heed(reply)
        except WrongServer as error:
            self.drop()
            raise WrongServer(explain(error, self._target)) from error
        except (Lost, DescriptorsClosed) as error:
            self.drop()
            raise Lost(f"{self._target}: {error}") from error
        return replies

    def fine(self) -> None:
        """Note that the server has answered as it should."""
        self._pause_s, self.trouble = _PAUSE_FIRST_S, ""

    def fail(self, why: str) -> None:
        """Drop the connection, and wait before the next one."""
        self.drop()
        self.trouble = why
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
