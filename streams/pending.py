"""Pending entries, looked at from outside the group: who has each, and for how long nobody has touched it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .asking import Asker, Command, good
from .entry import parse_id
from .group import RESTING_MS, SUSPECT_MS
from .letter import text_of

HELD, RESTING, SUSPECT = "held", "resting", "suspect"
PAGE = 1000  # what the server reads in well below a millisecond
NO_KEY, NO_GROUP = "no such key", "NOGROUP"


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry of the pending list.

    Arguments:
        id: of the entry.
        consumer: its owner.
        idle_ms: as the server has it; a mark and no time if the entry rests.
        attempts: the delivery counter. Of one that is held: the attempt that runs or comes next; of one that
            rests: those that were started.
    """

    id: str
    consumer: str
    idle_ms: int
    attempts: int

    @property
    def state(self) -> str:
        """Return whether somebody has it in hand: held, resting or suspect."""
        return SUSPECT if self.idle_ms >= SUSPECT_MS else RESTING if self.idle_ms >= RESTING_MS else HELD

    @property
    def untouched_ms(self) -> int:
        """Return for how long nobody has claimed, renewed or handed it back."""
        return self.idle_ms - {HELD: 0, RESTING: RESTING_MS, SUSPECT: SUSPECT_MS}[self.state]

    @property
    def created_ms(self) -> int:
        """Return when it was written, by its id: Unix milliseconds, unless the producer chose other ids."""
        return parse_id(self.id.encode())[0]


def page(
    stream: str, group: str, first: str = "-", count: int = PAGE, consumer: str | None = None
) -> Command:
    """XPENDING of entries in the order of their ids; for `rows`.

    Arguments:
        stream, group: names.
        first: id to begin with; "(" before it excludes it.
        count: at most so many; the server reads no more.
        consumer: only what this one owns.
    """
    return ("XPENDING", stream, group, first, "+", count, *(() if consumer is None else (consumer,)))


def rows(reply: Any) -> list[Pending]:
    """Return the reply to `page` as values."""
    return [Pending(text_of(row[0]), text_of(row[1]), row[2], row[3]) for row in reply or ()]


def oldest_first(
    asker: Asker,
    stream: str,
    group: str,
    *,
    consumer: str | None = None,
    untouched_ms: int = 0,
    limit: int = 0,
) -> Iterator[list[Pending]]:
    """Yield pages of pending entries, by their ids.

    The server is asked for a page at a time: its own filter by idle time would have it read the whole list at
    once, and it does not know what rests.

    Arguments:
        asker: asks the server.
        stream, group: names.
        consumer: only what this one owns.
        untouched_ms: only what nobody has touched for so long.
        limit: at most so many; 0 is all.

    Raises:
        redis.exceptions.ResponseError: NOGROUP: there is no such stream or group.
    """
    first, left = "-", limit
    while True:
        count = min(left, PAGE) if left and not untouched_ms else PAGE
        found = rows(good(asker.ask(page(stream, group, first, count, consumer))[0]))
        # What has no owner has no time either: it is wanted in any case.
        wanted = [row for row in found if not row.consumer or row.untouched_ms >= untouched_ms]
        yield wanted[:left] if left else wanted
        if len(found) < count or (left and len(wanted) >= left):
            return
        left -= len(wanted) if left else 0
        first = f"({found[-1].id}"


def total(asker: Asker, stream: str, group: str) -> tuple[int, int | None]:
    """Return the server's clock in Unix ms, and how many entries are pending; None without a group."""
    clock, summary = asker.ask(("TIME",), ("XPENDING", stream, group))
    counted = good(summary, NO_GROUP)
    return milliseconds(good(clock)), None if counted is None else int(counted[0])


def milliseconds(clock: Any) -> int:
    """Return the reply to TIME in Unix milliseconds."""
    return int(clock[0]) * 1000 + int(clock[1]) // 1000
