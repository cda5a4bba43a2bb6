"""The processes below a process: who they are, and their end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def inherit_orphans() -> None:
    """Become the parent of all processes below us whose own parent dies (Linux; elsewhere process 1 does)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children_of(pid: int) -> set[int]:
    """Return the pids of the children of a process, of zombies too.

    Raises:
        OSError: that cannot be found out now, for instance because no descriptor is free.
    """
    try:
        return {
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in task.joinpath("children").read_text().split()
        }
    except OSError:  # another system, a kernel without that file, or the process is gone
        with contextlib.suppress(psutil.Error):
            return {child.pid for child in psutil.Process(pid).children()}
    return set()


def in_our_session(pid: int) -> bool:
    """Tell whether a process belongs to our session: who has made one of its own wants to live on."""
    with contextlib.suppress(OSError):
        return os.getsid(pid) == os.getsid(0)
    return False


def kill(pids: Iterable[int]) -> None:
    """Kill processes, those that still are."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def kill_below(pid: int) -> None:
    """Kill all processes of our session below a process, parents first: they could start more."""
    for _ in range(3):
        found, ask = [], [pid]
        with contextlib.suppress(OSError):
            while ask:
                for child in children_of(ask.pop()):
                    if in_our_session(child):
                        found.append(child)
                        ask.append(child)
        if not found:
            return
        kill(found)
