"""Suggesting: whether a group has too few workers or too many, for scalers outside such as KEDA. Pure.

    decision = suggest(survey(client, "orders", "mailer"), target_s=30)
    decision.decision      OUT, IN or NO_SCALE

It looks once and remembers nothing: how often to ask, and how long to wait before an IN is followed, is the
scaler's affair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from ..streams.survey import Survey
from .scaling import busy_enough, enough


class Decision(StrEnum):
    """What to do."""

    OUT = "OUT"
    IN = "IN"
    NO_SCALE = "NO_SCALE"


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What a group needs.

    Arguments:
        decision: more, fewer, or as many as there are.
        rate: how often the target fits into the time that the backlog takes: above 1 it takes too long. None:
            not known, or nobody works.
        reason: why, in words.
        workers: wanted slots of all living instances; wanted: how many there should be.
        instances: that live; wanted_instances: how many of their size there should be.
        backlog: unread entries, the least it can be if not `exact`.
        takes_s: how long they take those workers; None: not known, or for ever.
        worker_rate: entries per second of a busy worker, None when not known.
        busy: workers at work.
    """

    decision: Decision
    rate: float | None
    reason: str
    workers: int
    wanted: int
    instances: int
    wanted_instances: int
    backlog: int
    exact: bool
    takes_s: float | None
    worker_rate: float | None
    busy: float


def suggest(seen: Survey, target_s: float = 30.0, least: int = 0, most: int | None = None) -> Suggestion:
    """Return what a group needs to clear its backlog in time.

    Arguments:
        seen: the group at this moment.
        target_s: how long a backlog may take, seconds.
        least, most: how few and how many workers may be suggested.
    """
    reports = [one.report for one in seen.living if one.report]
    workers = sum(len(said.slots) for said in reports)
    busy = sum(said.busy for said in reports)
    rate = _rate([(said.rate, len(said.slots)) for said in reports])
    backlog = (
        seen.lag if seen.unread else 0
    )  # some servers say otherwise for ever, after entries were removed
    takes_s = 0.0 if not backlog else backlog / (workers * rate) if workers and rate else None
    wanted, reason = _wanted(seen, backlog, target_s, workers, busy, rate, takes_s)
    wanted = max(wanted, least)
    wanted = wanted if most is None else min(wanted, most)
    each = math.ceil(workers / len(seen.living)) if workers else 1
    return Suggestion(
        decision=Decision.OUT if wanted > workers else Decision.IN if wanted < workers else Decision.NO_SCALE,
        rate=None if takes_s is None else takes_s / target_s,
        reason=reason,
        workers=workers,
        wanted=wanted,
        instances=len(seen.living),
        wanted_instances=math.ceil(wanted / each),
        backlog=backlog,
        exact=seen.lag_known,
        takes_s=takes_s,
        worker_rate=rate,
        busy=busy,
    )


def _wanted(
    seen: Survey,
    backlog: int,
    target_s: float,
    workers: int,
    busy: float,
    rate: float | None,
    takes_s: float | None,
) -> tuple[int, str]:
    """Return how many workers are needed, and why."""
    waits = f"{'' if seen.lag_known else 'at least '}{backlog} entries wait"
    work = bool(backlog or seen.pending or busy)
    if seen.pause:
        return workers, "the group is paused"
    if not workers:
        return int(
            work
        ), f"{waits}, {seen.pending} are pending, and nobody works" if work else "nothing to do"
    age_s = (seen.unread_ms or 0) / 1000
    if takes_s is not None and takes_s > target_s:
        assert rate
        words = f"{waits} and take {takes_s:.4g} s, more than {target_s:g} s"
        return max(workers + 1, enough(backlog, target_s, rate)), words
    if (takes_s is None or not seen.lag_known) and age_s > target_s:
        return workers + 1, f"{waits}, the oldest for {age_s:.4g} s, more than {target_s:g} s"
    if takes_s is None or not seen.lag_known:
        return workers, f"{waits}; how long they take is not known"
    need = max(busy_enough(busy), enough(backlog, target_s, rate) if rate and backlog else 0, int(work))
    if need < workers:
        return need, f"{need} would be enough"
    return workers, f"{waits} and take {takes_s:.4g} s"


def _rate(rates: list[tuple[float, int]]) -> float | None:
    known = [(rate, slots) for rate, slots in rates if rate > 0 and slots]
    slots = sum(slots for _, slots in known)
    return sum(rate * slots for rate, slots in known) / slots if slots else None
