"""The horizon: what waits for a pool that scales itself, as its master sees it in the segment."""

from __future__ import annotations

from collections.abc import Mapping

from ..ipc.cells import D, K
from ..ipc.segment import Segment
from ..ipc.slot import Slot
from .scaling import Memory, Outlook, Scale
from .spawn import portions_of

STALE_S = 10.0  # the keeper measures much more often


class Horizon:
    """Looks at the segment again and again."""

    def __init__(self, segment: Segment, scale: Scale) -> None:
        """Look at nothing yet."""
        self._segment, self._scale = segment, scale
        self._slots: dict[int, Slot] = {}
        self.every_s = scale.look_s
        self._memory: dict[int, tuple[int, int]] = {}  # pid -> its portion of memory, what is its own

    def look(self, pids: Mapping[int, int], now: float) -> Outlook | None:
        """Return what waits; None when the keeper does not know, or nobody may start anything.

        Arguments:
            pids: slot -> process in it.
            now: monotonic seconds.
        """
        view, real = self._segment.keep.view, self._segment.keep.real
        measured, exact = real[K.UNREAD_AT], bool(view[K.UNREAD_SURE])
        unread, oldest_s, fleet = view[K.UNREAD], real[K.UNREAD_S], view[K.FLEET]
        if view[K.PAUSED] or not measured or now > measured + STALE_S or real[K.UNREAD_AT] != measured:
            return None
        workers = self._segment.wanted
        share = workers / max(workers, fleet, 1)
        here = sum(self._in_hand(slot, now) for slot in pids)
        return Outlook(unread * share + here, exact, oldest_s, self._weigh(pids))

    def _in_hand(self, number: int, now: float) -> int:
        """Return how many entries a slot has that could be run now and are not."""
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = self._segment.slot(number)
        desk = slot.desk.view
        waits = max(0, desk[D.HELD] - (1 if desk[D.RUNNING] else 0))
        return waits + (slot.waiting.due(now) if desk[D.WAITING] else 0)

    def _weigh(self, pids: Mapping[int, int]) -> Memory | None:
        """Return the memory of the workers; one is measured at a time, for that may take milliseconds."""
        if not self._scale.max_memory or not pids:
            return None
        there = set(pids.values())
        known = {pid: size for pid, size in self._memory.items() if pid in there}
        new = sorted(there - known.keys())
        pid = new[0] if new else next(iter(known))
        known.pop(pid, None)  # and behind all others
        if (size := portions_of(pid)) is not None:
            known[pid] = size
        self._memory = known
        if not known:
            return None
        total = sum(portion for portion, _ in known.values()) * len(there) // len(known)
        return Memory(total, sum(own for _, own in known.values()) // len(known))
