"""Fork, signal, reap: the operating system's side of the master, and nothing that decides."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from ..ipc import stdio

_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Child:
    """The master's picture of a child. What it runs is in `worker.child` and `exporter`.

    Arguments:
        pid: not reused before we have reaped it, for it stays a zombie until then.
        control_fd: writing end of its control pipe; its end tells the child that we are gone.
    """

    pid: int
    control_fd: int

    def say(self, byte: bytes) -> None:
        """Write a byte to its control pipe; a full or broken pipe needs no further words."""
        with contextlib.suppress(OSError):
            os.write(self.control_fd, byte)

    def signal(self, number: int) -> None:
        """Send it a signal, if it still is."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def close(self) -> None:
        """Close our end of its pipe."""
        with contextlib.suppress(OSError):
            os.close(self.control_fd)


def fork(run: Callable[[int], None], ours: Iterator[int]) -> Child:
    """Fork a child that calls `run` with the reading end of its control pipe and never returns.

    Arguments:
        run: must end the process by itself.
        ours: descriptors of the master that the child must not keep.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    stdio.flush()
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid:
        os.close(reader)
        return Child(pid, writer)
    try:
        signal.set_wakeup_fd(-1)
        for fd in (writer, *ours):
            with contextlib.suppress(OSError):
                os.close(fd)
        run(reader)
    finally:
        os._exit(70)


def end_with(parent: int) -> None:
    """Let this process be killed when its parent ends, also while it hangs or is stopped (Linux).

    Arguments:
        parent: pid; if that has ended already, this process ends now.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(os.EX_UNAVAILABLE)


def reap() -> Iterator[tuple[int, int]]:
    """Yield (pid, wait status) of every child that has ended or stopped since."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        except ChildProcessError:
            return
        if not pid:
            return
        yield pid, status


def settle_memory() -> None:
    """Put all that is imported out of the collector's reach, so that children go on sharing it."""
    gc.collect()
    gc.freeze()


def memory_of(pid: int) -> int | None:
    """Return the resident bytes of a process, None when it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def portions_of(pid: int) -> tuple[int, int] | None:
    """Return the bytes of a process with its portion of what it shares, and without; None when it is gone.

    Where the system does not say what is shared, all counts as its own.
    """
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        size = memory_of(pid)
        return None if size is None else (size, size)
    sizes = {name: int(rest.split()[0]) << 10 for name, _, rest in (row.partition(":") for row in rows[1:])}
    if "Pss" not in sizes:  # it is ending
        return None
    return sizes["Pss"], sizes.get("Private_Clean", 0) + sizes.get("Private_Dirty", 0)
