"""Leftovers: processes that a worker has started and that have outlived it.

Process pools, managers, shells: their parent is dead, so they become children of the master, whom nobody
tells. It knows them by that: they were not there before a worker died. Each has a moment to end by itself, as
those do that read the end of a pipe, and is then killed.

A process in a session of its own (`start_new_session`, `setsid`) is meant to live on and is left alone. So is
one whose own parent ended while the worker lived, for nobody can tell whose it was; and what the import of
the handler has started, which is the master's.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time

from ..ipc import family

log = logging.getLogger("rsq.master")
GRACE_S = 0.5
_EVERY_S = 0.05
_END_S = 2.0  # for all generations of them, when the master ends


class Leftovers:
    """What is to be ended, and what is to be left alone."""

    def __init__(self) -> None:
        """Leave alone what is there already; what is left over becomes ours from now on."""
        family.inherit_orphans()
        self._spared = _children() or set()
        self._seen: set[int] = set()  # children that we have not started, before this pass has reaped any
        self._due: dict[int, float] = {}  # pid -> when it is killed
        self._ended = False  # one of them has ended in this pass: what it has started is ours now

    @property
    def due(self) -> float:
        """Return when one is to be killed, in monotonic seconds."""
        return min(self._due.values(), default=math.inf)

    def look(self, known: set[int]) -> None:
        """Note which children are there, before any is reaped: those of the dead are ours by then.

        Arguments:
            known: children that this master has started.
        """
        found = _children()
        if found is not None:  # else those of the last pass are the best that is known
            self._seen = found - known
        self._ended = False

    def reaped(self, pid: int) -> None:
        """Note that a child has ended that this master has not started."""
        self._ended = self._due.pop(pid, None) is not None or self._ended

    def press_on(self, known: set[int], now: float, *, orphaned: bool) -> None:
        """Find out who is left over, and kill whose time is up.

        Arguments:
            known: children that this master has started.
            now: monotonic seconds.
            orphaned: a worker has ended in this pass.
        """
        if orphaned or self._ended:
            for pid in (_children() or set()) - known - self._spared - self._due.keys():
                if family.in_our_session(pid):
                    self._due[pid] = now + GRACE_S
        elif not self._due:
            self._spared = self._seen
        for pid, due in list(self._due.items()):
            if now >= due:
                self._due[pid] = now + GRACE_S
                log.debug("process %d has outlived the worker that started it: killed", pid)
                family.kill([pid])

    def end(self, known: set[int]) -> None:
        """Kill all that are left, and what those have started. Blocks, so only for a master that leaves."""
        deadline = time.monotonic() + _END_S
        while self._due and time.monotonic() < deadline:
            family.kill(self._due)
            time.sleep(_EVERY_S)
            for pid in list(self._due):
                with contextlib.suppress(ChildProcessError):
                    if os.waitpid(pid, os.WNOHANG)[0]:
                        del self._due[pid]
            found = (_children() or set()) - known - self._spared - self._due.keys()
            self._due.update((pid, 0.0) for pid in found if family.in_our_session(pid))


def _children() -> set[int] | None:
    """Return our children; none where orphans never become ours. None when no descriptor is free to look."""
    if sys.platform != "linux":
        return set()
    try:
        return family.children_of(os.getpid())
    except OSError:
        return None
