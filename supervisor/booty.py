"""What a pass of the sweep has done, collected to be logged in few lines."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ..streams.sweeping import HOST_LOST, Moved, Trimmed
from .plan import Owner, Stand
from .printable import one_line

log = logging.getLogger(__name__)
NAMED = 10  # so many ids are named before only their number is
NAME_MAX = 200


def name(value: str | bytes) -> str:
    """A name from Redis, safe to print."""
    return one_line(value, NAME_MAX)


def ids(entries: Iterable[bytes]) -> str:
    """Name entries, if they are not too many."""
    found = [entry.decode("ascii", "replace") for entry in entries]
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more


class Booty:
    """What was taken in one pass, by whose it was."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._handed: Counter[tuple[str, str]] = Counter()
        self._charged: Counter[tuple[str, str]] = Counter()
        self._buried: dict[tuple[str, str], list[bytes]] = {}
        self._lost: dict[tuple[str, str], list[bytes]] = {}
        self._removed: list[str] = []

    def handed(self, whose: tuple[str, str], done: dict[bytes, Moved]) -> None:
        """Note what a handover did.

        Arguments:
            whose: name of the owner, and why its entries could be taken.
            done: entry -> what became of it.
        """
        codes = Counter(done.values())
        if moved := codes[Moved.DONE] + codes[Moved.CHARGED]:
            self._handed[whose] += moved
        self._charged[whose] += codes[Moved.CHARGED]
        self._note_lost(whose, done)

    def buried(self, whose: tuple[str, str], done: dict[bytes, Moved]) -> None:
        """Note what was dead-lettered."""
        if found := [entry for entry, code in done.items() if code == Moved.DONE]:
            self._buried.setdefault(whose, []).extend(found)
        self._note_lost(whose, done)

    def removed(self, names: Iterable[bytes]) -> None:
        """Note which consumers were removed."""
        self._removed += map(name, names)

    def tell(self) -> None:
        """Log it."""
        for (owner, why), number in self._handed.items():
            charged = self._charged[owner, why]
            log.log(
                logging.WARNING if charged else logging.INFO,
                "took over %d entries of %s (%s)%s", number, owner, why,
                f": {charged} suspects, which were held there: each is charged an attempt and run alone"
                if charged else ", nobody is charged",
            )  # fmt: skip
        for (owner, why), entries in self._buried.items():
            log.error(
                "dead-lettered %d entries of %s (%s), reason %s, all attempts used up: %s",
                len(entries), owner, why, HOST_LOST, ids(entries),
            )  # fmt: skip
        for (owner, _), entries in self._lost.items():
            log.error(
                "data lost: %d entries pending for %s were deleted from the stream before they were handled:"
                " %s; look for whoever trims or deletes there", len(entries), owner, ids(entries),
            )  # fmt: skip
        if self._removed:
            more = f" and {len(self._removed) - NAMED} more" if len(self._removed) > NAMED else ""
            log.info(
                "removed %d consumers that were gone for long and had nothing pending: %s%s",
                len(self._removed), ", ".join(self._removed[:NAMED]), more,
            )  # fmt: skip

    def _note_lost(self, whose: tuple[str, str], done: dict[bytes, Moved]) -> None:
        if found := [entry for entry, code in done.items() if code == Moved.LOST]:
            self._lost.setdefault(whose, []).extend(found)


def named(owner: Owner, reports: dict[str, Any]) -> tuple[str, str]:
    """Return who is named in the log, and why its entries may be taken."""
    if owner.stand is not Stand.LOST:
        return name(owner.claim.slot), owner.stand.value
    said = reports.get(owner.claim.instance)
    if said is None:
        return name(owner.claim.instance), owner.stand.value
    try:
        when = datetime.fromtimestamp(said.beat, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        when = "?"
    return name(owner.claim.instance), f"{owner.stand.value}, last heard of at {when}"


def tell_held_back(stream: str, done: Trimmed) -> None:
    """Say which group keeps a stream from being trimmed."""
    where, who = name(stream), name(done.holder)
    log.warning(
        "group %s keeps stream %s from being trimmed: what it has not read or not acknowledged"
        " begins %.1f hours before the newest entry. Let it catch up, or, if nobody uses it any"
        " more: XGROUP DESTROY %s %s", who, where, done.behind_ms / 3_600_000, where, who,
    )  # fmt: skip


def tell_restored(stream: str, group: str, start_id: str) -> None:
    """Say that a group was missing and is there again."""
    log.error(
        "group %s of stream %s was missing: somebody has destroyed it, or deleted the stream. Created"
        " again, reading from %s; what was pending is lost", name(group), name(stream), start_id,
    )  # fmt: skip
