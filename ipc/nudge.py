"""The nudge: how a worker wakes a keeper that sleeps because no slot had more than one entry in hand.

A keeper says that it is calm before it looks at the slots, a worker looks for that after it has said what it
has in hand: one of them sees the other.
"""

from __future__ import annotations

import contextlib
import os
import signal

from .cells import K, Keep

# Ignored by whoever does not expect it: the number may be another process's by now.
NUDGE = signal.SIGURG


class Nudge:
    """A pool's keeper, to be woken."""

    def __init__(self, keep: Keep) -> None:
        """Look at the keeper's cells."""
        self._view = keep.view

    def give(self) -> None:
        """Wake the keeper if it sleeps; cheap if it does not."""
        if self._view[K.CALM] and (pid := self._view[K.PID]):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, NUDGE)
