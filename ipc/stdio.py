"""Standard input, output and error: they may be closed at start, replaced by user code, or read by nobody."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from typing import TextIO

_NAMES = ("stdin", "stdout", "stderr")


def open_missing() -> None:
    """Open the null device in place of each standard stream that was closed when the program was started.

    Else the next file or connection that is opened gets that number, and what is printed goes there. To be
    called before anything is opened.
    """
    for number, name in enumerate(_NAMES):
        try:
            os.fstat(number)
        except OSError:
            fd = os.open(os.devnull, os.O_WRONLY if number else os.O_RDONLY)
            if fd != number:
                os.dup2(fd, number)
                os.close(fd)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
            setattr(sys, f"__{name}__", getattr(sys, name))


def flush(limit_s: float = 0.0) -> None:
    """Write what standard output and error still hold, as far as somebody reads them.

    Arguments:
        limit_s: how long to wait for whoever reads, in seconds.
    """
    deadline = time.monotonic() + limit_s
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # user code may have closed it, or put anything in its place
            if _has_room(stream, max(0.0, deadline - time.monotonic())):
                stream.flush()


def _has_room(stream: TextIO, limit_s: float) -> bool:
    try:
        fd = stream.fileno()
    except (OSError, AttributeError):  # it lies in memory
        return True
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(limit_s * 1000))
