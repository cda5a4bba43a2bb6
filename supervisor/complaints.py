"""Complaints: the errors that a keeper meets, told, counted, and reported to the fleet.

An error is told in full when it begins and when it becomes another one; while it repeats, it is told once a
minute how often. Each is counted in the segment, for the metrics. What lasts stands in the keeper's report,
where `rsq check` sees it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..ipc.cells import K, Keep, Part
from ..streams.trouble import code
from .printable import one_line

log = logging.getLogger("rsq.keeper")

LASTS_S = 2.0  # what is over sooner is not reported, and a lost connection not told
_AGAIN_S = 60.0
_OVER_S = 60.0  # what was not met again for so long is over: nobody may have tried again since
_WHAT = {
    Part.LEASE: "the instance lease is not renewed, trying again",
    Part.PENDING: "pending entries cannot be renewed",
    Part.BREAKERS: "circuit breakers are as they were last known",
    Part.LENDING: "no entries are lent to idle slots",
    Part.SWEEP: "the sweep could not go on, it will try again",
    Part.BACKLOG: "the backlog cannot be measured",
    Part.ACKS: "what was finished before an entry that takes long is not acknowledged yet",
}


@dataclass(slots=True)
class _Standing:
    """A complaint that lasts. Times are monotonic."""

    words: str
    since: float
    last: float
    told: float = 0.0  # 0: not yet
    repeats: int = 0  # since it was told


class Complaints:
    """What the parts of one keeper complain about."""

    def __init__(
        self, title: str, keep: Keep | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin without a complaint.

        Arguments:
            title: of the pool, for the log.
            keep: where errors are counted; None: nowhere.
            clock: monotonic seconds.
        """
        self._title, self._keep, self._clock = title, keep, clock
        self._standing: dict[Part, _Standing] = {}

    def add(self, part: Part, error: Exception | str, *, after_s: float = 0.0) -> None:
        """Count an error, and tell it if it is new or it is time again.

        Arguments:
            part: what could not be done because of it.
            error: it, or its words.
            after_s: tell it only once it has lasted for so long.
        """
        if self._keep is not None:
            self._keep.view[K.ERRORS + part] += 1
        now, words = self._clock(), one_line(str(error), 300)
        found = self._standing.get(part)
        if found is None or now - found.last > _OVER_S:
            found = self._standing[part] = _Standing(words, now, now)
        found.last = now
        if _kind(words) != _kind(found.words):
            found.words, found.told, found.repeats = words, 0.0, 0
        if now - found.since < after_s:
            return
        if not found.told:
            found.told = now
            level = logging.ERROR if part is Part.SWEEP else logging.WARNING
            log.log(level, "%s: %s: %s", self._title, _WHAT[part], words)
            return
        found.repeats += 1
        if now - found.told >= _AGAIN_S:
            log.warning(
                "%s: %s: %d times more within %.0f s: %s",
                self._title, _WHAT[part], found.repeats, now - found.told, words,
            )  # fmt: skip
            found.told, found.repeats = now, 0

    def over(self, part: Part) -> None:
        """Note that a part has done what it is for."""
        if (found := self._standing.pop(part, None)) is not None and found.told:
            lasted = self._clock() - found.since
            log.info("%s: over after %.1f s: %s", self._title, lasted, _WHAT[part])

    def lasting(self) -> dict[str, str]:
        """Return part -> what it complains about, for all that has lasted and goes on."""
        now = self._clock()
        return {
            part.name.lower(): f"{_WHAT[part]}, for {now - one.since:.0f} s: {one.words}"
            for part, one in sorted(self._standing.items())
            if one.last - one.since >= LASTS_S and now - one.last <= _OVER_S
        }


def _kind(words: str) -> str:
    return code(words) or words
