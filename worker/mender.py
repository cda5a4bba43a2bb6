"""The mender: what a worker does about trouble with Redis, other than connecting anew."""

from __future__ import annotations

import logging
import time

from ..ipc.cells import D
from ..ipc.ledger import C
from ..ipc.slot import Slot
from ..streams.group import Group
from ..streams.wire import Lost
from .patience import Patience
from .session import BACKOFF_FIRST_S, BACKOFF_MAX_S, Refused, Session, good
from .spec import Source

log = logging.getLogger(__name__)


class Mender:
    """Says what is wrong, makes the group again when it is gone, and does not hurry."""

    def __init__(self, source: Source, slot: Slot, group: Group, session: Session) -> None:
        """Bring together what is mended."""
        self._source, self._slot, self._group, self._session = source, slot, group, session
        self._counters = slot.ledger.sums.counters
        self._patience = Patience(BACKOFF_FIRST_S, BACKOFF_MAX_S)

    def restored(self) -> None:
        """Note that Redis has answered as it should."""
        self._patience.restored()

    def mend(self, error: Exception) -> None:
        """Say what is wrong with Redis, repair what we may, and rest for a while."""
        if isinstance(error, Lost):
            self._slot.desk.view[D.CONNECTED] = 0
        self._counters[C.REDIS_ERRORS] += 1
        self._slot.ledger.publish()
        words = self._session.words(error)
        if isinstance(error, Refused) and str(error).startswith("NOGROUP"):
            self._session.regrouped = self._source.start_id != "$"
            words = self._recreate(words)
        if words and self._patience.is_news(words, time.monotonic()):
            log.warning("stream %s, consumer %s: %s", self._group.stream, self._group.consumer, words)
        self._session.rest(self._patience.pause_s())

    def ensure_group(self) -> str:
        """Create the group and the consumer where they are missing.

        Returns:
            Why the group was not created; empty when it was.
        """
        made = self._group.create(self._source.start_id), self._group.create_consumer()
        created, consumer = self._session.call(*made)
        self._session.consumer_was_missing = consumer == 1
        # A server that is full creates nothing; what is there can and must be read all the same.
        if isinstance(created, Exception) and not str(created).startswith(("BUSYGROUP", "OOM")):
            good(created)
        return str(created) if isinstance(created, Exception) else ""

    def _recreate(self, words: str) -> str:
        """Create the group that is gone; return what there is to say if that was not done here."""
        try:
            refusal = self.ensure_group()
        except (Lost, Refused) as error:
            return f"{words}; the group cannot be created: {self._session.words(error)}"
        if refusal.startswith("BUSYGROUP"):
            return ""  # most often by another slot before us
        if refusal:
            return f"{words}; the group cannot be created: {self._session.words(Refused(refusal))}"
        self._counters[C.GROUPS_RECREATED] += 1
        self._slot.ledger.publish()  # others may handle all that comes next
        log.error(
            "group %s of stream %s was gone; created again at %s",
            self._group.group, self._group.stream, self._source.start_id,
        )  # fmt: skip
        return ""
