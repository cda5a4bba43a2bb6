"""Leading: one keeper of a group has the lead, and sweeps while it may trust in that."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from ..ipc.cells import K, Keep
from ..ipc.fence import TRUSTED, boot_time
from ..streams.beat import Beat
from .complaints import Complaints
from .settings import Pool
from .sweep import Deposed, Sweeper

log = logging.getLogger("rsq.keeper")


class Lead:
    """What one keeper knows of the lead over its group."""

    def __init__(
        self,
        pool: Pool,
        keep: Keep,
        call: Callable[..., list[Any]],
        most: Callable[[], int],
        complaints: Complaints | None = None,
    ) -> None:
        """Begin as a follower; for `call`, `most` and `complaints` see `Sweeper`."""
        self._title, self._lease_s, self._view = pool.title, pool.fleet.lease_s, keep.view
        self._sweeper = Sweeper(pool, call, most, complaints)
        self._epoch, self._leader = 0, ""
        self._until = 0.0  # boot time
        self._due = math.inf  # of the sweeper, monotonic

    def note(self, beat: Beat, sent: float) -> None:
        """Take note of what a beat said.

        Arguments:
            beat: with the instance lease held.
            sent: boot time before it was sent.
        """
        lead = beat.lead
        assert lead is not None
        was, before = bool(self._view[K.LEADING]), (self._epoch, self._leader)
        self._epoch, self._leader = beat.lead_epoch, lead.holder
        self._view[K.LEADER_EPOCH] = beat.lead_epoch
        if not lead.held:
            self.drop()
            if was:
                log.warning("no longer leads %s: %s does, epoch %d", self._title, lead.holder, self._epoch)
            elif before != (self._epoch, self._leader):
                log.info("%s leads %s, epoch %d", lead.holder, self._title, self._epoch)
            return
        is_new = not was or not lead.unbroken or before[0] != self._epoch
        if is_new:
            log.info("leads %s, epoch %d", self._title, self._epoch)
        if is_new or boot_time() >= self._until:
            # If this is no new term, the server was away for so long that the leases of others may have run
            # out, though ours has not: nobody is swept before all who live have come back.
            self._due = time.monotonic()
            self._sweeper.wait(self._due)
        self._until = sent + TRUSTED * self._lease_s
        self._view[K.LEADING] = 1

    def drop(self) -> None:
        """Sweep no more."""
        self._view[K.LEADING], self._until, self._due = 0, 0.0, math.inf

    @property
    def due(self) -> float:
        """Return when to call `sweep`, in monotonic seconds."""
        return self._due

    def sweep(self) -> bool:
        """Do one step of the sweep if it is time; False when the server says that another leads.

        Raises:
            Lost: the connection broke.
        """
        if time.monotonic() < self._due:
            return True
        now = boot_time()
        if now >= self._until:
            self._due = time.monotonic() + self._lease_s / 10  # the next beat says whether we still lead
            return True
        try:
            self._due = self._sweeper.turn(self._epoch, time.monotonic())
        except Deposed:
            log.warning("no longer leads %s: epoch %d is over", self._title, self._epoch)
            self.drop()
            return False
        return True
