"""The controls: everything that may tell a worker to end, gathered in one list.

A worker ends when `stopping` is no longer empty; the loop asks that of a plain list because nothing
is cheaper. It is filled by SIGTERM, by a byte on the control pipe, by the end of that pipe (the
master is gone), and in a child that a handler forked by accident.
"""

from __future__ import annotations

# The public `getsignal` looks for a handler of ours in an enumeration, every time, and fails.
import _signal  # type: ignore[import-not-found]
import contextlib
import os
import select
import signal
import threading
from collections.abc import Callable
from types import FrameType

import setproctitle

from ..ipc import logsink

DRAIN = b"d"
WAKE = b"w"
INTRUDER = "intruder"
_IGNORED = ("SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU")


class Controls:
    """How one worker is told what to do."""

    def __init__(self, control_fd: int, fork_title: str = "rsq: child", *, deaf: bool = False) -> None:
        """Take over the signals of this process.

        Arguments:
            control_fd: reading end of the pipe from the master; its end means the master is gone.
            fork_title: process title of what a handler forks: else it would look like a worker.
            deaf: heed no request to stop: what this process does ends by itself, and nobody else does it.
        """
        self._deaf, self._fork_title = deaf, fork_title
        self.stopping: list[str] = []
        self.wakes = 0  # how often the master has asked to look after closed slots
        self.control_fd = control_fd
        self._pid = os.getpid()
        self._orphaned = False
        self._on_alarm: Callable[[int, FrameType | None], None] | None = None
        os.set_blocking(control_fd, False)
        self.wakeup_fd, write = os.pipe()
        os.set_blocking(self.wakeup_fd, False)
        os.set_blocking(write, False)
        self._poll = select.poll()
        for fd in self.watch:
            self._poll.register(fd, select.POLLIN)
        self._take_signals()
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self._masks = threading.local()
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._forked)

    @property
    def watch(self) -> tuple[int, ...]:
        """Return the descriptors to watch while waiting."""
        return self.wakeup_fd, self.control_fd

    def glance(self) -> None:
        """Look if something came: for a loop so busy that it never waits, and may be deaf to signals."""
        if self._poll.poll(0):
            self.look()
        logsink.settle()

    def look(self) -> None:
        """Take note of what came over the descriptors."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.wakeup_fd, 4096)
        if self._orphaned:
            return
        try:
            said = os.read(self.control_fd, 4096)
        except BlockingIOError:
            return
        if not said:
            self.orphan()
            # An ended pipe is always readable: put one in its place that is not, or every wait would spin.
            os.dup2(self.wakeup_fd, self.control_fd)
            self._orphaned = True
        if DRAIN in said:
            self._stop("drain")
        self.wakes += said.count(WAKE)

    def restore(self) -> None:
        """Take the signals back if user code has changed them."""
        alarm = _signal.getsignal(signal.SIGALRM)
        if _signal.getsignal(signal.SIGTERM) != self._term or self._on_alarm not in (None, alarm):
            self._take_signals()

    def use_alarm(self, handler: Callable[[int, FrameType | None], None]) -> None:
        """Handle SIGALRM: the soft time limit."""
        self._on_alarm = handler
        self._take_signals()

    @property
    def is_intruder(self) -> bool:
        """Tell whether this process is a copy of the worker that a handler forked and let go on."""
        return INTRUDER in self.stopping or os.getpid() != self._pid

    def _take_signals(self) -> None:
        signal.signal(signal.SIGTERM, self._term)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        for name in _IGNORED:  # a terminal or a service manager sends these to the whole group
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        if self._on_alarm is not None:
            signal.signal(signal.SIGALRM, self._on_alarm)

    def orphan(self) -> None:
        """Note that the master is gone."""
        self._stop("the master is gone")

    def _stop(self, why: str) -> None:
        if not self._deaf:
            self.stopping.append(why)

    def _term(self, _number: int, _frame: FrameType | None) -> None:
        self._stop("SIGTERM")

    def _hold(self) -> None:
        """Let a SIGTERM wait while a handler forks: the child must not take it for an order to drain."""
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _release(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _forked(self) -> None:
        """Be nobody in a child that a handler forks: SIGTERM ends it, and its signals are not ours."""
        self.stopping.append(INTRUDER)
        signal.set_wakeup_fd(-1)
        setproctitle.setproctitle(self._fork_title)
        if signal.getsignal(signal.SIGTERM) == self._term:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._release()
