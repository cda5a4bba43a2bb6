"""Pending entries, looked at from outside the group: who has each, and for how long nobody has touched it."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, replace
from heapq import merge
from itertools import islice
from typing import Any

from . import keys, marks
from .asking import Asker, Command, good
from .entry import parse_id
from .letter import text_of
from .marks import Mark

PAGE = 1000  # what the server reads in well below a millisecond
NO_KEY, NO_GROUP = "no such key", "NOGROUP"


@dataclass(frozen=True, slots=True)
class Pending:
    """An entry of the pending list.

    Arguments:
        id: of the entry.
        consumer: that has it: of an entry with a mark, the slot's.
        idle_ms: as the server has it.
        attempts: the delivery counter. Of one that is held: the attempt that runs or comes next; of one that
            rests: those that were started.
        mark: what the owner's name says of it; HELD: its idle time says it.
    """

    id: str
    consumer: str
    idle_ms: int
    attempts: int
    mark: Mark = Mark.HELD

    @property
    def state(self) -> str:
        """Return whether somebody has it in hand: held, resting or suspect."""
        return marks.read(self.mark, self.idle_ms).mark.value

    @property
    def untouched_ms(self) -> int:
        """Return for how long nobody has claimed, renewed or handed it back."""
        return marks.read(self.mark, self.idle_ms).untouched_ms

    def among(self, instances: Container[str]) -> Pending:
        """Return it as it is where these are the instances; others' consumers have no marks."""
        seat = keys.seat(self.consumer)
        if self.mark is Mark.HELD or (seat is not None and seat[0] in instances):
            return self
        return replace(self, consumer=marks.owner(self.consumer, self.mark), mark=Mark.HELD)

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
    """Return the reply to `page` as values; see `Pending.among`."""
    found = []
    for entry, owner, idle_ms, attempts in reply or ():
        consumer, mark = marks.split(text_of(owner))
        found.append(Pending(text_of(entry), consumer, idle_ms, attempts, mark))
    return found


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
        consumer: only what this one has; a slot's, whatever the marks.
        untouched_ms: only what nobody has touched for so long.
        limit: at most so many; 0 is all.

    Raises:
        redis.exceptions.ResponseError: NOGROUP: there is no such stream or group.
    """
    count = min(limit, PAGE) if limit and not untouched_ms else PAGE
    owners = (None,) if consumer is None else marks.owners(consumer)
    lists = [_by_id(asker, stream, group, owner, count) for owner in owners]
    # What has no owner has no time either: it is wanted in any case.
    found = (row for row in merge(*lists, key=_id) if not row.consumer or row.untouched_ms >= untouched_ms)
    wanted = islice(found, limit) if limit else found
    yield list(islice(wanted, count))
    while shown := list(islice(wanted, count)):
        yield shown


def _by_id(asker: Asker, stream: str, group: str, owner: str | None, count: int) -> Iterator[Pending]:
    """Yield what an owner has, by the ids; the server is asked for so many at a time."""
    first, more = "-", True
    while more:
        found = rows(good(asker.ask(page(stream, group, first, count, owner))[0]))
        yield from found
        more = len(found) == count
        first = f"({found[-1].id}" if found else first


def _id(row: Pending) -> tuple[int, int]:
    return parse_id(row.id.encode())


def total(asker: Asker, stream: str, group: str) -> tuple[int, int | None]:
    """Return the server's clock in Unix ms, and how many entries are pending; None without a group."""
    clock, summary = asker.ask(("TIME",), ("XPENDING", stream, group))
    counted = good(summary, NO_GROUP)
    return milliseconds(good(clock)), None if counted is None else int(counted[0])


def milliseconds(clock: Any) -> int:
    """Return the reply to TIME in Unix milliseconds."""
    return int(clock[0]) * 1000 + int(clock[1]) // 1000
