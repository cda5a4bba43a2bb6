"""The health check: findings about a group, from a survey and limits. Pure.

good      0   nothing to do
warning   1   a limit is exceeded, or somebody should look before it gets worse
critical  2   nobody works, or it cannot be told whether anybody does
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from ..streams.idempotence import PRODUCERS_MOST, Memory
from ..streams.replication import Replication
from ..streams.survey import Survey
from .figures import span
from .fleetboard import lag, told
from .printable import one_line, printable
from .reading import label

LOST_S = 3600.0  # for so long a loss is told
LEASE_S = 15.0  # where no instance says another
COUNT_MOST = 10_000  # unread entries, on a server that has to count them: some milliseconds of it


class Grade(IntEnum):
    """How bad it is: the exit code."""

    GOOD = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """What is still good; None is not looked at. `idle_s` is in seconds, the others are entries."""

    lag: int | None = None
    pending: int | None = None
    idle_s: float | None = None
    dlq: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Arguments:
        check: its name; these stay as they are.
        grade: how it is.
        text: one line for a person, safe to print.
        value: what was found; None when that is not known.
        limit: the most that is good; None when there is no such limit.
    """

    check: str
    grade: Grade
    text: str
    value: float | None = None
    limit: float | None = None


def findings(
    seen: Survey, limits: Limits, replicas: Replication | None = None, producers: Memory | None = None
) -> list[Finding]:
    """Return what is to be said of a group, in a fixed order.

    Arguments:
        seen: the group.
        limits: what is still good.
        replicas: of the server; None when it has none, or does not say.
        producers: what the server remembers of those of the stream; None if it does not say.
    """
    if seen.length is None or not seen.exists:
        what = "stream" if seen.length is None else "group"
        names = label(seen.stream) + (f" / {label(seen.group)}" if seen.length is not None else "")
        advice = "check the names, and that its pool was started" if not seen.found else "a leader creates it"
        return [
            Finding("server", Grade.GOOD, "the server answers"),
            Finding("group", Grade.CRITICAL, f"there is no {what} {names}: {advice}"),
            _instances(seen),
        ]
    found = [
        Finding("server", Grade.GOOD, "the server answers"),
        Finding("group", Grade.GOOD, "the group exists"),
        _instances(seen),
        _leader(seen),
        _lag(seen, limits.lag),
        _pending(seen, limits.pending),
        _idle(seen, limits.idle_s),
        _dlq(seen, limits.dlq),
    ]
    found += _keepers(seen)
    if replicas is not None and not replicas.guarded:
        words = (
            f"{replicas.replicas} connected; min-replicas-to-write is 0: after a failover the old primary may"
            " confirm for some seconds what is lost. CONFIG SET min-replicas-to-write 1 bounds that"
        )
        found.append(Finding("replicas", Grade.GOOD, words, replicas.replicas))
    if producers is not None and producers.is_too_large:
        words = (
            f"the server keeps ids of {producers.producers} producers and forgets none: see docs/producer.md"
        )
        found.append(Finding("producers", Grade.WARNING, words, producers.producers, PRODUCERS_MOST))
    found += _lost(seen)
    if seen.pause:
        words = f"paused {told(seen.pause, seen.now_ms)}; rsq resume lets it go on"
        found.append(Finding("pause", Grade.GOOD, words))
    return found


def cannot_tell(words: str) -> list[Finding]:
    """Return the finding that the server could not be asked."""
    return [Finding("server", Grade.CRITICAL, one_line(words))]


def worst(found: Sequence[Finding]) -> Grade:
    """Return the grade of the whole."""
    return max((finding.grade for finding in found), default=Grade.GOOD)


def lines(stream: str, group: str, found: Sequence[Finding]) -> list[str]:
    """Return the whole in one line, then a line per finding, the worst first."""
    grade = worst(found)
    bad = [finding.text for finding in found if finding.grade == grade]
    summary = "; ".join(bad) if grade else f"{len(found)} checks"
    ordered = sorted(found, key=lambda finding: -finding.grade)
    return [
        printable(f"{grade.name} {label(stream)} / {label(group)}: {summary}"),
        *(printable(f"{one.grade.name.lower():<8}  {one.check:<9}  {one.text}") for one in ordered),
    ]


def as_json(stream: str, group: str, found: Sequence[Finding]) -> dict[str, Any]:
    """Return the whole as a value for JSON."""
    grade = worst(found)
    return {
        "stream": label(stream),
        "group": label(group),
        "status": grade.name.lower(),
        "code": int(grade),
        "findings": [asdict(finding) | {"grade": finding.grade.name.lower()} for finding in found],
    }


def _instances(seen: Survey) -> Finding:
    living, gone = seen.living, [one for one in seen.instances if not one.alive]
    if living:
        return Finding("instances", Grade.GOOD, f"{len(living)} alive", len(living))
    last = max((one.report.beat for one in gone if one.report), default=None)
    since = "" if last is None else f"; the last one went {span(max(0.0, seen.now_ms / 1000 - last))} ago"
    return Finding("instances", Grade.CRITICAL, f"no living instance{since}: start a pool", 0)


def _leader(seen: Survey) -> Finding:
    reports = [one.report for one in seen.living if one.report]
    lease_s = max((one.lease_s for one in reports), default=LEASE_S)
    patience_ms = 2000 * lease_s
    if leader := seen.leader:
        who = f"{one_line(leader.holder, 60)}, epoch {leader.epoch}"
        if leader.left_ms is None or leader.left_ms > patience_ms:
            words = f"the lead of {who} runs out too late for anybody else to take it: delete its key"
            return Finding("leader", Grade.WARNING, words, leader.epoch)
        return Finding("leader", Grade.GOOD, who, leader.epoch)
    oldest = min((one.started for one in reports), default=None)
    if oldest is not None and seen.now_ms / 1000 - oldest < patience_ms / 1000:
        return Finding("leader", Grade.GOOD, "none yet: the fleet has just started")
    words = f"nobody leads: what dead hosts left is not taken over; should pass within {span(2 * lease_s)}"
    return Finding("leader", Grade.WARNING, words)


def _keepers(seen: Survey) -> list[Finding]:
    """Return what keepers cannot do for now, by their own reports."""
    return [
        Finding("keepers", Grade.WARNING, f"{one_line(one.name, 60)}: {one_line(words)}")
        for one in seen.living
        for _, words in sorted(one.report.trouble.items() if one.report else ())
    ]


def _lost(seen: Survey) -> list[Finding]:
    """Return what instances have lost lately: somebody deletes or acknowledges what they hold."""
    found = []
    for one in seen.instances:
        said = one.report
        if said is None or not said.lost or seen.now_ms / 1000 - said.lost_at > LOST_S:
            continue
        since = span(max(0.0, seen.now_ms / 1000 - said.lost_at))
        words = (
            f"{one_line(one.name, 60)} has lost {said.lost} entries in all, the last {since} ago:"
            " its log names them, and docs/strangers.md says what does that"
        )
        found.append(Finding("lost", Grade.WARNING, words, said.lost))
    return found


def _lag(seen: Survey, limit: int | None) -> Finding:
    words = f"{lag(seen)} entries unread"
    if seen.unread_ms is not None:
        words += f", the oldest for {span(seen.unread_ms / 1000)}"
    if not seen.lag_known:
        words += " (the server does not know how many)"
    return _limited("lag", words, seen.lag, limit, unknown=not seen.lag_known)


def _pending(seen: Survey, limit: int | None) -> Finding:
    return _limited("pending", f"{seen.pending} entries pending", seen.pending, limit)


def _idle(seen: Survey, limit: float | None) -> Finding:
    row = seen.untouched
    if row is None:
        return _limited("idle", "nothing is pending", 0.0, limit)
    if not row.consumer:  # of all that was looked at: what has an owner has a time
        return _limited("idle", f"{row.id} has no owner: the leader takes it over", 0.0, limit)
    untouched_s = row.untouched_ms / 1000
    words = f"{row.id} of {one_line(row.consumer, 60)} untouched for {span(untouched_s)}"
    return _limited("idle", words, untouched_s, limit)


def _dlq(seen: Survey, limit: int | None) -> Finding:
    words = f"{seen.dead_letters} entries in {one_line(seen.dlq, 60)}"
    return _limited("dlq", words, seen.dead_letters, limit)


def _limited(check: str, words: str, value: float, limit: float | None, *, unknown: bool = False) -> Finding:
    if limit is None:
        return Finding(check, Grade.GOOD, words, None if unknown else value)
    bad = value > limit or unknown
    if unknown and value <= limit:
        words += f", so it cannot be told whether it is at most {limit:g}"
    else:
        words += f", {'more than' if value > limit else 'at most'} {limit:g} wanted"
    return Finding(check, Grade.WARNING if bad else Grade.GOOD, words, None if unknown else value, limit)
