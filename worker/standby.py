"""Standing by: nothing is started while the group is paused or the instance lease cannot be trusted.

Entries that were fetched and not started stay pending; they are found again by an audit, or, when others may
have acted since, by recovering as after a crash.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from ..ipc.cells import D, DeskState
from ..ipc.fence import Fence
from ..ipc.slot import Slot
from ..streams.wire import Lost
from .backlog import Backlog
from .controls import Controls
from .session import Refused, Session, wait_readable

log = logging.getLogger(__name__)
_FIRST_S, _MAX_S = 0.005, 0.2


class Standby:
    """What one worker does while it may not act."""

    def __init__(
        self, name: str, slot: Slot, session: Session, backlog: Backlog, controls: Controls, fence: Fence
    ) -> None:
        """Bring together what is waited for, and what is looked at afterwards.

        Arguments:
            name: of the consumer, for the log.
        """
        self._name, self._desk, self._session, self._backlog = name, slot.desk.view, session, backlog
        self._controls, self._fence = controls, fence

    @property
    def is_wanted(self) -> bool:
        """Tell whether nothing may be started now, or others may have acted since the term we know."""
        return not self._fence.is_open or self._fence.term != self._session.term

    def wait_for_lease(self) -> bool:
        """Wait for the keeper, and note its term; False when the worker has to stop first."""
        if not self._wait(lambda: self._fence.holds):
            return False
        self._session.term = self._fence.term
        return True

    def wait(self) -> bool:
        """Wait until something may be started; False when the worker has to stop first."""
        self._desk[D.STATE], self._desk[D.SETTLED] = DeskState.STANDING_BY, 0
        left = False

        def is_open() -> bool:
            nonlocal left
            if not left and self._fence.paused and self._fence.holds:  # perhaps not before a while
                left = True
                self._leave()
            return self._fence.is_open

        return self._wait(is_open)

    def _leave(self) -> None:
        """Close the line for the time of a pause."""
        if self._session.wire is not None:
            self._session.send()  # what is finished need not wait for the end of a long pause
        self._session.finish(time.monotonic() + 1)  # a read that waits would be given entries

    def look_again(self) -> None:
        """On a new connection: if the lease was lost for a while, find out what is still ours.

        Raises:
            Lost, Refused: Redis could not be asked; what is still ours has to be looked at again.
        """
        term = self._fence.term
        if self._session.wire is None or term == self._session.term:
            return
        log.warning(
            "consumer %s: the instance lease was lost for a while: looking what is still ours", self._name
        )
        self._session.renounce()
        self._session.term = term
        try:
            self._backlog.recover()
        except (Lost, Refused):
            self._session.term = -1  # no term
            raise

    def _wait(self, is_open: Callable[[], bool]) -> bool:
        pause = _FIRST_S
        while not is_open():
            if self._controls.stopping:
                return False
            wait_readable(self._controls.watch, pause)
            self._controls.look()
            pause = min(2 * pause, _MAX_S)
        return not self._controls.stopping
