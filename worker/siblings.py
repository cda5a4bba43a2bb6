"""The other slots of a pool, as the worker of one slot sees them: by their locks in the segment."""

from __future__ import annotations

from collections.abc import Mapping

from ..ipc.cells import D, DeskState
from ..ipc.segment import LANE, Segment
from ..ipc.soundness import Unsound, check_waiting
from .stories import Stories


class SegmentSiblings:
    """See `claims.Siblings`."""

    def __init__(self, segment: Segment, own: int) -> None:
        self._segment, self._own = segment, own
        self._desks: dict[int, memoryview[int]] = {}

    @property
    def wanted(self) -> int:
        return self._segment.wanted

    def any_idle(self) -> bool:
        for number in range(self.wanted):
            if number not in self._desks and self._segment.used(number):
                self._desks[number] = self._segment.slot(number).desk.view
            desk = self._desks.get(number)
            if desk is not None and number != self._own and desk[D.STATE] == DeskState.IDLE:
                return True
        return False

    def lock_closed(self, slot: int) -> bool:
        if slot >= self._segment.capacity:
            return True
        if self._segment.lock_slot(slot) is not None:
            return False
        if self._segment.used(slot) and self._segment.slot(slot).desk.view[D.HOLDS]:
            self.unlock(slot)  # it died with entries in hand: its own successor puts them in order
            return False
        return True

    def lock_lane(self) -> bool:
        return self._segment.lock_slot(LANE) is None

    def unlock_lane(self) -> None:
        self._segment.unlock_slot(LANE)

    def waiting(self, slot: int) -> Mapping[bytes, tuple[int, float]]:
        if not self._segment.used(slot):
            return {}
        table = self._segment.slot(slot).waiting
        try:
            check_waiting(table)
        except Unsound:  # they are due at once, then
            return {}
        return table.load()

    def stories(self, slot: int) -> Stories:
        return Stories(self._segment.path.with_suffix(f".letters-{slot}"))

    def unlock(self, slot: int) -> None:
        if slot < self._segment.capacity:
            self._segment.unlock_slot(slot)
