"""Scaling: how many workers a pool of `--workers MIN-MAX` should have. Pure.

    more    the backlog would take the workers there are longer than the target
    fewer   during a whole target's time fewer would have been enough, and no backlog takes too long
    fewer   they use more memory than they may, whatever the backlog is

A pool never grows because it is busy, only because something waits; and it gives up a worker only when the
rest would still have a fifth of their time to spare. Between the two it stays as it is: a constant load
finds one size and keeps it. How many are too few is remembered while the load lasts that showed it: a
handler that gets slower with every worker, or waits for the network, cannot make the pool swing.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace

from ..ipc.cells import Why

SPARE = 0.8  # of their time, at most, that workers are at work once others have been given up
_AT_WORK = (
    1 / 3
)  # of the workers there are, before there are more: else something other than their number is wrong
_ROOM = 0.9  # of the memory allowed may be used up by growing: processes grow by themselves too
_TINY = 1e-9
_COUNTLESS = 10**9  # workers


@dataclass(frozen=True, slots=True)
class Scale:
    """What the operator asked for.

    Arguments:
        least, most: workers.
        target_s: how long a backlog may take.
        step: most workers that one change adds or takes away.
        cooldown_s: between two changes.
        max_memory: bytes that all workers together may use, 0 for no limit.
    """

    least: int
    most: int
    target_s: float = 30.0
    step: int = 4
    cooldown_s: float = 10.0
    max_memory: int = 0

    @property
    def look_s(self) -> float:
        """Return how often to look."""
        return min(1.0, max(0.1, self.target_s / 10))

    def clamp(self, workers: int) -> int:
        """Return the number nearest to this one that is allowed."""
        return min(max(workers, self.least), self.most)


@dataclass(frozen=True, slots=True)
class Memory:
    """What the workers use: bytes of all together, and what one more would add."""

    total: int
    each: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What waits for this pool.

    Arguments:
        backlog: entries: its share of what is unread, what its slots have not begun, retries that are due.
        exact: there are no more; else at least so many.
        oldest_s: how long the oldest unread entry has waited; only looked at when it is not exact.
        memory: None when it does not matter.
    """

    backlog: float
    exact: bool = True
    oldest_s: float = 0.0
    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class Past:
    """What is remembered from one look to the next.

    Arguments:
        changed: when the pool was resized last.
        since: from when on every look has seen something; None: the last one saw nothing.
        needs: how many workers were needed when, in the last target's time; none that a later one reaches.
        tight: so many workers were not enough, and how many were at work.
        held: why it does not grow although it should, in words.
    """

    changed: float = -math.inf
    since: float | None = None
    needs: tuple[tuple[float, int], ...] = ()
    tight: tuple[int, float] | None = None
    held: str = ""


@dataclass(frozen=True, slots=True)
class Wish:
    """How many workers there should be, and why."""

    workers: int
    why: Why
    words: str


def enough(backlog: float, target_s: float, rate: float) -> int:
    """Return how many workers clear a backlog in time.

    Arguments:
        backlog: entries.
        target_s: how long it may take.
        rate: entries per second of one busy worker; positive.
    """
    each = max(
        target_s * rate, sys.float_info.min
    )  # what a worker does in time: of a slow one next to nothing
    return math.ceil(min(backlog / each, _COUNTLESS) - _TINY)


def busy_enough(busy: float) -> int:
    """Return how many workers do what so many do now, with time to spare."""
    return math.ceil(busy / SPARE - _TINY)


def decide(
    scale: Scale, past: Past, outlook: Outlook | None, busy: float, rate: float, workers: int, now: float
) -> tuple[Past, Wish | None]:
    """Return what to remember, and what to change if anything.

    Arguments:
        scale: what the operator asked for.
        past: from the look before.
        outlook: what waits; None when that is not known, or nobody may work: nothing is changed then.
        busy: how many workers are at work, smoothed.
        rate: entries per second of a busy worker; 0 when none has ever been at work.
        workers: how many are wanted now.
        now: monotonic seconds.
    """
    if outlook is None or (outlook.backlog > 0 and not rate):
        return replace(past, since=None, needs=(), held=""), None
    backlog = max(0.0, outlook.backlog)
    takes_s = backlog / (workers * rate) if backlog else 0.0
    late = not outlook.exact and outlook.oldest_s > scale.target_s
    slow = takes_s > scale.target_s or late
    past = _remember(scale, past, outlook, slow=slow, busy=busy, rate=rate, workers=workers, now=now)
    over = _over(scale, outlook.memory)
    if now < past.changed + scale.cooldown_s:
        return past, None
    if over and workers > scale.least:
        assert outlook.memory is not None
        wish = Wish(
            max(scale.least, workers - min(scale.step, over)),
            Why.MEMORY,
            f"they use {_mib(outlook.memory.total)}, more than {_mib(scale.max_memory)}",
        )
    elif slow and busy >= _AT_WORK * workers:
        words = _slow_words(scale, outlook, takes_s, workers)
        wanted = max(workers + 1, enough(backlog, scale.target_s, rate) if backlog else 0)
        wanted = min(wanted, workers + scale.step, scale.most, workers + _room(scale, outlook.memory))
        if wanted <= workers:
            why = "as many as there may be" if workers >= scale.most else "there is no memory for one more"
            return replace(past, held=f"{words}; {why}"), None
        wish = Wish(wanted, Why.BACKLOG, words)
    elif (
        not slow
        and past.since is not None
        and now >= past.since + _window_s(scale)
        and past.needs[0][1] < workers
    ):
        peak = past.needs[0][1]
        wish = Wish(
            max(peak, workers - scale.step), Why.IDLE, f"{peak} were enough for {_window_s(scale):g} s"
        )
    else:
        return past, None
    return replace(past, changed=now), wish


def _remember(
    scale: Scale,
    past: Past,
    outlook: Outlook,
    *,
    slow: bool,
    busy: float,
    rate: float,
    workers: int,
    now: float,
) -> Past:
    tight = past.tight
    if slow and busy >= _AT_WORK * workers:
        tight = (workers, busy)
    elif tight is not None and busy < SPARE * tight[1] + _TINY:
        tight = None
    need = max(scale.least, busy_enough(busy))
    if outlook.backlog > 0:
        need = max(need, enough(outlook.backlog, scale.target_s, rate))
    if tight is not None:
        need = max(need, tight[0] + 1)
    if not outlook.exact:
        need = max(need, workers)
    need = min(need, scale.most)
    begin = now - _window_s(scale)
    needs = tuple(row for row in past.needs if row[0] >= begin and row[1] > need)
    since = now if past.since is None else past.since
    return replace(past, since=since, needs=(*needs, (now, need)), tight=tight, held="")


def _window_s(scale: Scale) -> float:
    return max(scale.target_s, scale.cooldown_s)


def _over(scale: Scale, memory: Memory | None) -> int:
    """Return how many workers are too many for the memory."""
    if not scale.max_memory or memory is None or memory.total <= scale.max_memory:
        return 0
    return math.ceil((memory.total - scale.max_memory) / max(1, memory.each))


def _room(scale: Scale, memory: Memory | None) -> int:
    """Return for how many more workers there is memory."""
    if not scale.max_memory or memory is None:
        return scale.most
    return max(0, int((_ROOM * scale.max_memory - memory.total) / max(1, memory.each)))


def _slow_words(scale: Scale, outlook: Outlook, takes_s: float, workers: int) -> str:
    waits = f"{'' if outlook.exact else 'at least '}{round(outlook.backlog)} entries wait"
    if takes_s > scale.target_s:
        return f"{waits} and would take {workers} workers {takes_s:.4g} s, more than {scale.target_s:g} s"
    return f"{waits}, the oldest for {outlook.oldest_s:.4g} s, more than {scale.target_s:g} s"


def _mib(size: int) -> str:
    return f"{size >> 20} MiB"
