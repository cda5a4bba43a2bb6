"""Exit codes of our processes, and what the death of a child means.

The numbers follow sysexits.h where it has a name for the case, so that a service manager can tell
a wrong configuration (never restart) from a bad day (restart).
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import IntEnum

OK = 0
UNAVAILABLE = 69  # EX_UNAVAILABLE: a server that a tool needs does not answer
NEVER_BOOTED = 70  # EX_SOFTWARE: no slot of the pool ever finished its boot
CANNOT_CREATE = 73  # EX_CANTCREAT
RECYCLED = 79  # of a worker, to its master: it has done its share, and was not told to end
CONFIG = 78  # EX_CONFIG: wrong settings; starting again cannot help


class Cause(IntEnum):
    """Why a slot's last process ended. Stored in shared memory: numbers are never reused."""

    UNKNOWN = 0  # nobody saw it: the master died too
    CLEAN = 1  # drained: it handed back all it held
    CRASH = 2  # a signal or an exit that nobody asked for
    TIMEOUT = 3  # killed by the master: one handler ran longer than the hard limit
    SHUTDOWN = 4  # killed by the master: the pool had to stop before the drain was done
    ERROR = 5  # our own code gave up, outside of any handler
    RECYCLE = 6  # drained to be replaced by a fresh process
    RELOAD = 7  # drained to be replaced by new code
    STUCK = 8  # killed by the master: it did not start, or did not end, in its time


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended.

    Arguments:
        cause: why, as far as the master knows.
        detail: the signal's number, or 256 + the exit code.
    """

    cause: Cause
    detail: int = 0

    @property
    def words(self) -> str:
        """Return the reason as a dead letter and a log line give it."""
        if self.cause is Cause.TIMEOUT:
            return "timeout"
        if self.cause is Cause.UNKNOWN or self.detail == 0:
            return "crash: unseen"
        return f"crash: {describe(self.detail)}"

    @property
    def charges(self) -> bool:
        """Tell whether the entry that was being handled is charged with an attempt."""
        return self.cause in (Cause.UNKNOWN, Cause.CRASH, Cause.TIMEOUT)


def describe(detail: int) -> str:
    """Return `SIGSEGV` for a signal's number, `exit 3` for 256 + an exit code."""
    if detail >= EXITED:
        return f"exit {detail - EXITED}"
    try:
        return signal.Signals(detail).name
    except ValueError:
        return f"signal {detail}"


EXITED = 256


def detail_of(wait_status: int) -> int:
    """Return the detail of a `waitpid` status."""
    if os.WIFSIGNALED(wait_status):
        return os.WTERMSIG(wait_status)
    return EXITED + os.WEXITSTATUS(wait_status)
