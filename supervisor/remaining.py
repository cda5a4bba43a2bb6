"""What an order still leaves to be done, in words; empty when it is carried out. Pure."""

from __future__ import annotations

from collections.abc import Collection

from ..streams.fleet import BUSY, DOWN
from ..streams.survey import Survey


def not_paused(before: Survey, now: Survey) -> str:
    """Say who may still be at work: the busy, and those that have not reported since."""
    busy = sum(one.slots(BUSY) for one in now.living)
    return not_told(before, now) or (_busy(busy) if busy else "")


def not_told(before: Survey, now: Survey) -> str:
    """Say who has not reported since."""
    old = {one.name: one.report.beat for one in before.living if one.report}
    silent = [one.name for one in now.living if one.report and old.get(one.name) == one.report.beat]
    return f"no word yet from {', '.join(silent[:10])}" if silent else ""


def still_there(instance: str, now: Survey) -> str:
    """Say what an instance has to finish before it ends."""
    one = next((one for one in now.living if one.name == instance), None)
    return f"{instance} has {_busy(one.slots(BUSY))}" if one else ""


def not_sized(before: Survey, now: Survey, names: Collection[str], workers: int) -> str:
    """Say which of some instances have another number of workers than was ordered, 0 for as configured."""
    if not workers:
        return not_told(before, now)
    for one in now.living:
        if one.name in names and one.report and (len(one.report.slots) != workers or one.slots(DOWN)):
            up = len(one.report.slots) - one.slots(DOWN)
            return f"{one.name} has {up} of {workers} workers"
    return ""


def _busy(count: int) -> str:
    return f"{count} busy slot{'' if count == 1 else 's'}"
