"""Signals that come before the master, or the root, has handlers of its own for them.

Importing the program and the handler takes a while, and the default action of most signals would end or stop
the process meanwhile. From the first instruction on, TERM, INT and QUIT end the program; all others
are remembered, and `shell.Doorbell` hears them as if they came then. Nothing is blocked: the handler's
module and what it starts have the signal mask that they have elsewhere.

This module is imported first of all: it must not import anything heavy.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

# What each signal does is the policy's affair (`on_<name>`); handlers only wake the loop.
SIGNALS = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGCHLD")
SIGNAL_NUMBERS = tuple(getattr(signal, name) for name in SIGNALS)
ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_MOST = 1024

_heard = bytearray()
_owner = 0
_has_children = False


def begin(*, has_children: bool) -> None:
    """Take over the signals, those too that came before this.

    Arguments:
        has_children: this program replaces one whose children are still there. Whoever takes over tells them
            to drain, so that the first request to end waits for that. A second one does not.
    """
    global _owner, _has_children
    _owner, _has_children = os.getpid(), has_children
    for number in SIGNAL_NUMBERS:
        if number != signal.SIGCHLD or has_children:
            signal.signal(number, _take)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNAL_NUMBERS)


def end_asked() -> bool:
    """Tell whether somebody has asked the program to end."""
    return any(number in ENDS for number in _heard)


def heard() -> bytes:
    """Return the numbers of the signals that were remembered, in their order; once."""
    numbers = bytes(_heard)
    _heard.clear()
    return numbers


def _take(number: int, _frame: FrameType | None) -> None:
    if os.getpid() != _owner:  # a process that the handler's module has forked: as if we had never been
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    elif number in ENDS and (not _has_children or end_asked()):
        os._exit(0)  # an exception could be lost in a callback of the import system
    elif len(_heard) < _MOST:
        _heard.append(number)
