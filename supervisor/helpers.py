"""The master's other children: exporter, keeper, the server of an embedded pool. Replaced when they die."""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..ipc.exitcodes import describe, detail_of
from .backoff import pause_s
from .spawn import Child

log = logging.getLogger(__name__)
_STEADY_S = 10.0  # one that lived this long starts with a clean record


@dataclass(slots=True)
class Helper:
    """A child that is simply started again, after a pause that grows while it keeps dying.

    Arguments:
        name: for the log.
        start: forks it.
        child: its process, None while there is none.
        pause_max_s: longest pause, however often it has died.
        last_word: written to its control pipe when it is to end for good.
    """

    name: str
    start: Callable[[], Child]
    child: Child | None = None
    due: float = 0.0
    pause_max_s: float = math.inf
    last_word: bytes = b""
    _since: float = 0.0
    _fruitless: int = 0

    def ensure(self, now: float) -> None:
        """Start it when it is due."""
        if self.child is None and now >= self.due:
            try:
                self.child = self.start()
            except (OSError, ValueError, RuntimeError) as error:  # the last: its lock is held
                log.error("%s: cannot be started: %s", self.name, error)
                self.due = now + 5
            else:
                self._since = now

    def gone(self, status: int, now: float) -> None:
        """Note that its process has ended."""
        assert self.child is not None
        self.child.close()
        self.child = None
        self._fruitless = 0 if now - self._since > _STEADY_S else self._fruitless + 1
        pause = min(self.pause_max_s, pause_s(self._fruitless))
        self.due = now + pause
        if status:
            words = describe(detail_of(status))
            log.error("%s: its process died: %s; a new one starts in %.1f s", self.name, words, pause)
        else:
            log.info("%s: its process was told to end", self.name)  # as by a signal to all of us

    def stop(self, patience_s: float) -> None:
        """End it, gently first. Blocks, so only for a master that is leaving anyway."""
        if self.child is None:
            return
        if self.last_word:
            self.child.say(self.last_word)
        self.child.signal(signal.SIGTERM)
        self.child.close()
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            try:
                pid, _ = os.waitpid(self.child.pid, os.WNOHANG)
            except ChildProcessError:
                break
            if pid:
                break
            signal.sigtimedwait([signal.SIGCHLD], 0.02) if hasattr(signal, "sigtimedwait") else time.sleep(
                0.02
            )
        else:
            log.error("%s: its process did not end within %g s: killed", self.name, patience_s)
            self.child.signal(signal.SIGKILL)
            os.waitpid(self.child.pid, 0)
        self.child = None


@dataclass(slots=True)
class Pulse:
    """Tells whether a child that shows signs of life has been silent for too long.

    Arguments:
        limit_s: how long that is. Time that the master itself slept through does not count.
    """

    limit_s: float
    _seen: float = 0.0
    _since: float = 0.0
    _last: float = 0.0

    def begin(self, now: float) -> None:
        """Note that the child has just been started."""
        self._since = self._last = now

    def late(self, beat: float, now: float) -> bool:
        """Tell whether the child must be taken for hung.

        Arguments:
            beat: its last sign of life, any number that changes.
            now: monotonic seconds.
        """
        if beat != self._seen or now - self._last > self.limit_s:
            self._seen, self._since = beat, now
        self._last = now
        return now - self._since > self.limit_s

    @property
    def due(self) -> float:
        """Return when to ask again at the latest."""
        return self._since + self.limit_s + 0.01
