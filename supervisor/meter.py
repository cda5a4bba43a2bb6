"""The meter: how many workers are at work, and how fast a busy one is. Pure.

A rate counts what was finished in how many seconds of work, over two stretches of time: the one that goes
on, and the one before it. Each is as long as it takes for the figure to mean something: long handlers
finish little. What runs for longer than entries took so far is evidence too: it counts, in the stretch that
goes on, as if it ended at this moment, so that quick entries of before do not hide slow ones.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

_SMOOTH_S = 5.0
_STRETCH_S, _STRETCH_ENTRIES = 10.0, 10  # a stretch has both at least
_BELIEF = 2.0  # entries: so much more than the ones that run the rate of before counts against them
_GAP_S = 5.0  # nobody knows what happened in a longer one


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was finished in some time, and how long workers were at work for it."""

    since: float = 0.0
    finished: int = 0
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Meter:
    """What was seen so far.

    Arguments:
        at: the last look, monotonic; 0 before the first.
        busy: workers at work, smoothed.
        finished: slot -> entries ever finished there.
        stretch, before: see above.
        running: entries that run, if one of them does for longer than entries took so far; else 0.
    """

    at: float = 0.0
    busy: float = 0.0
    finished: Mapping[int, int] = field(default_factory=dict)
    stretch: Stretch = Stretch()
    before: Stretch = Stretch()
    running: int = 0

    @property
    def rate(self) -> float:
        """Return entries per second of a busy worker; 0 when none was ever at work.

        Before anything is finished it is as much as it can be, not more.
        """
        known, stretch = self._known, self.stretch
        if not self.running or not known:
            return known
        return min(known, (stretch.finished + self.running + _BELIEF) / (stretch.busy_s + _BELIEF / known))

    @property
    def _known(self) -> float:
        """Return the rate by what was finished."""
        busy_s = self.before.busy_s + self.stretch.busy_s
        return max(1, self.before.finished + self.stretch.finished) / busy_s if busy_s > 0 else 0.0

    def look(
        self,
        now: float,
        finished: Mapping[int, int],
        busy: float,
        smooth_s: float = _SMOOTH_S,
        running: Collection[tuple[float, int]] = (),
    ) -> Meter:
        """Return the meter after another look.

        Arguments:
            now: monotonic seconds.
            finished: slot -> entries ever finished there.
            busy: how many workers are at work at this moment.
            smooth_s: how long it takes for the number of busy workers to follow.
            running: of each call of a handler that runs: for how many seconds, with how many entries.
        """
        passed = now - self.at
        if not self.at:
            return Meter(now, self.busy, dict(finished), Stretch(now))
        if not 0 < passed <= _GAP_S:
            return replace(self, at=now, finished={**self.finished, **finished})
        new = sum(max(0, count - self.finished.get(slot, count)) for slot, count in finished.items())
        at_work = self.busy + (busy - self.busy) * (1 - math.exp(-passed / smooth_s))
        stretch, before = self.stretch, self.before
        if now - stretch.since >= _STRETCH_S and stretch.finished >= _STRETCH_ENTRIES:
            stretch, before = Stretch(now), stretch
        stretch = Stretch(stretch.since, stretch.finished + new, stretch.busy_s + busy * passed)
        made = Meter(now, at_work, {**self.finished, **finished}, stretch, before)
        late = any(age_s * made._known > entries for age_s, entries in running)
        return replace(made, running=sum(entries for _, entries in running)) if late else made
