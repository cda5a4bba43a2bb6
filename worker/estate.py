"""The estate: what consumers of this instance left whose slots are closed for good."""

from __future__ import annotations

import logging

from ..streams.group import Group, info_rows
from .backlog import Backlog
from .claims import Siblings
from .recovery import orphans
from .session import Session, good

log = logging.getLogger(__name__)


class Estate:
    """Taken over by one slot of the pool, when the master asks for it."""

    def __init__(
        self, instance: str, siblings: Siblings, group: Group, session: Session, backlog: Backlog
    ) -> None:
        """Bring together who left it and who takes it."""
        self._instance, self._siblings = instance, siblings
        self._group, self._session, self._backlog = group, session, backlog

    def adopt(self) -> None:
        """Take over all that is left there."""
        rows = info_rows(good(self._session.must(self._group.consumers())))
        for number, name in orphans(rows, self._instance, self._siblings.wanted):
            # With its lock in hand, nobody can open the slot and claim the same entries.
            if self._siblings.lock_closed(number):
                try:
                    taken = self._backlog.adopt(
                        name, self._siblings.waiting(number), self._siblings.stories(number)
                    )
                finally:
                    self._siblings.unlock(number)
                log.info("took over %d entries from %s, whose slot is closed", taken, name)
