"""The process: CPU time and memory of one that is looked at again and again, at the least cost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil

_SAME_PROCESS_S = 60.0


class Process:
    """A process that was found once. When its pid is another's, it is gone."""

    def __init__(self, process: psutil.Process) -> None:
        """Take one that lives.

        Raises:
            psutil.Error: it is gone or hidden from us.
        """
        self.pid = process.pid
        self._process = process
        self._began = _stat(self.pid)[1] if sys.platform == "linux" else 0
        if not process.is_running():  # else what was just read may be of a later one with that pid
            raise psutil.NoSuchProcess(self.pid)

    def usage(self) -> tuple[float, int] | None:
        """Return its CPU seconds and resident bytes, None when it has ended or its pid is now another's.

        Raises:
            psutil.Error: nobody has its pid any more, or it is hidden from us.
        """
        if sys.platform == "linux":
            # One read has all of it, where psutil would need three for each process of a large pool.
            state, began, cpu_s, rss = _stat(self.pid)
            return None if began != self._began or state in (b"Z", b"X") else (cpu_s, rss)
        with self._process.oneshot():
            if not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE:
                return None
            times = self._process.cpu_times()
            return times.user + times.system, self._process.memory_info().rss


def find(pid: int, started: float) -> psutil.Process | None:
    """Return the process of that pid, None if it is gone or a later one: numbers are used again.

    Arguments:
        pid: any number.
        started: seconds since 1970, when it was started.
    """
    if not pid:
        return None
    try:
        process = psutil.Process(pid)
        later = process.create_time() > started + _SAME_PROCESS_S
        return None if later or process.status() == psutil.STATUS_ZOMBIE else process
    except (psutil.Error, OSError, RuntimeError, ValueError, OverflowError):
        return None  # gone, hidden from us, or a number that is no pid


def _stat(pid: int) -> tuple[bytes, int, float, int]:
    """Return state, start in clock ticks, CPU seconds and resident bytes as Linux has them."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError as error:
        raise psutil.NoSuchProcess(pid) from error
    words = line[line.rindex(b")") + 2 :].split()  # its name, before that, may hold anything
    cpu_s = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    return words[0], int(words[19]), cpu_s, int(words[21]) * os.sysconf("SC_PAGE_SIZE")
