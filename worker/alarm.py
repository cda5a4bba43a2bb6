"""The alarm: the soft time limit of functions that no event loop runs.

One timer for all: it goes off no later than the shortest limit after an entry has begun, and looks which
entry runs. An exception is raised where user code runs, nowhere else.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from time import monotonic
from types import CodeType, FrameType

from ..ipc.journal import Journal
from .controls import Controls
from .verdict import OURS, SoftTimeout

_AGAIN_S = 0.001
# Modules between our loops and user code; `batcher` runs what a batch handler yields.
_BETWEEN = tuple(
    f"rsq.worker.{name}" for name in ("adapters", "batcher", "guard", "letters", "quota", "ways")
)


class Alarm:
    """The timer of one worker."""

    def __init__(self, shortest_s: float, journal: Journal, controls: Controls) -> None:
        """Take over its signal, if there is any limit.

        Arguments:
            shortest_s: the shortest limit that any entry has; 0 when none has one.
            journal: of the slot.
            controls: where signals are handled.
        """
        self.shortest_s, self._journal = shortest_s, journal
        self._loops: list[CodeType] = []
        self.limit_s: Callable[[int], float] = lambda _place: 0.0  # of a place of the newest batch
        if shortest_s:
            controls.use_alarm(self._on_alarm)

    def watch(self, loop: CodeType) -> None:
        """Learn which function of ours calls user code."""
        self._loops.append(loop)

    def begin(self) -> None:
        """User code runs from now on."""
        if self.shortest_s:
            signal.setitimer(signal.ITIMER_REAL, self.shortest_s)

    def end(self) -> None:
        """It does not any more."""
        if self.shortest_s:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _on_alarm(self, _number: int, frame: FrameType | None) -> None:
        """Raise in user code that has run too long; come again later in any other case."""
        above: list[str] = []  # modules of the frames that our loop has called, the first one last
        at = frame
        while at is not None and at.f_code not in self._loops:
            above.append(at.f_globals.get("__name__", ""))
            at = at.f_back
        if at is None:
            return
        marks = self._journal.marks.tolist()
        begun = max(marks)
        limit_s = self.limit_s(marks.index(begun))
        left_s = limit_s - (monotonic() - begun)
        if not limit_s or left_s > 0:  # the one after it may have less time
            signal.setitimer(signal.ITIMER_REAL, min(left_s, self.shortest_s) if limit_s else self.shortest_s)
            return
        while above and above[-1].startswith(_BETWEEN):
            above.pop()
        if not above or above[-1].startswith(OURS):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN_S)
            return
        signal.setitimer(signal.ITIMER_REAL, self.shortest_s)
        raise SoftTimeout(f"ran longer than {limit_s:g} s")
