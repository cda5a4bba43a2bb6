"""A tree of processes: what all of it has used, and its end.

CPU times come from the kernel: of a living process by its CPU clock, to the nanosecond, threads and all;
of children that have ended, from the account of the parent that reaped them, to a hundredth of a second.
"""

from __future__ import annotations

import contextlib
import time

import psutil


def family(root: int) -> list[psutil.Process]:
    """Return a process and all its descendants, those that still run."""
    try:
        process = psutil.Process(root)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def used_s(root: int) -> float:
    """Return the CPU seconds of a process and all its descendants, also of those that have ended."""
    total = 0.0
    for process in family(root):
        with contextlib.suppress(psutil.NoSuchProcess, OSError):
            times = process.cpu_times()
            total += times.children_user + times.children_system
            total += time.clock_gettime(~process.pid << 3 | 2)  # as clock_getcpuclockid(3) makes it
    return total


def pss_bytes(root: int) -> int:
    """Return the memory of a process and all its descendants, shared pages counted once."""
    total = 0
    for process in family(root):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


def alive(process: psutil.Process) -> bool:
    """Tell whether a process still runs; one that nobody reaps does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def end(root: int) -> None:
    """Kill a process and all its descendants, the parent first: it would only start others."""
    known = family(root)
    while known:
        for process in known:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        known = [process for process in known if alive(process)]
        time.sleep(0.002)
