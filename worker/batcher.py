"""The batcher: entries that wait to be handled together. Pure: it is told the time.

What is gathered here is pending and known to nobody else in the pool: a process that dies with it leaves
entries that were on their way. What has waited for a second has a waiting record in Redis, so that the loss
of this host charges it nothing. A call is due when it is full, when the first of its entries has waited for
long enough, or at once for an entry that has to run alone: one of those that were in a call which went wrong
with somebody's fault.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

from ..ipc.journal import JOURNAL_MAX
from ..streams.entry import Raw
from .router import Gather

RECORD_S = 1.0  # a handler that keeps its entries waiting for longer is worth a command for each


class Item(NamedTuple):
    """An entry that waits. `since` is when it came, in monotonic seconds."""

    entry: Raw
    attempt: int
    since: float


@dataclass(frozen=True, slots=True)
class Load:
    """The entries of one call.

    Arguments:
        key: whose they are, as `add` was told.
        items: in the order in which they came.
    """

    key: int
    items: Sequence[Item]


@dataclass(slots=True)
class Batcher:
    """What is gathered in one slot.

    Arguments:
        gathers: what each handler gathers, by a key of the caller's.
        alone: ids of entries that have to run alone, whenever they come.
        asked: the value of `Runner.asked` at which all of these were known to be ours.
        recorded: ids of those that have a waiting record: it has to be removed before they run.
    """

    gathers: dict[int, Gather]
    alone: set[bytes] = field(default_factory=set)
    asked: float = 0.0
    recorded: set[bytes] = field(default_factory=set)
    _single: deque[Load] = field(default_factory=deque)
    _many: dict[int, deque[Item]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how many entries wait."""
        return len(self._single) + sum(map(len, self._many.values()))

    @property
    def ids(self) -> set[bytes]:
        """Return what waits."""
        return {item.entry[0] for item in self._items()}

    @property
    def attempts(self) -> dict[bytes, int]:
        """Return what waits, and for which attempt."""
        return {item.entry[0]: item.attempt for item in self._items()}

    @property
    def due(self) -> float | None:
        """Return when a call is due, in monotonic seconds; None while nothing waits."""
        if self._single:
            return 0.0
        return min((self._due(key) for key, items in self._many.items() if items), default=None)

    @property
    def wake(self) -> float | None:
        """Return when a call is due, or a waiting record, in monotonic seconds; None while nothing waits."""
        if self._single:
            return 0.0
        return min((self._look(key) for key, items in self._many.items() if items), default=None)

    @property
    def missing(self) -> int:
        """Return how many more entries the largest call that is being gathered can take."""
        open_ = (self.gathers[key].size - len(items) for key, items in self._many.items() if items)
        return max(0, *open_, 0)

    def add(self, key: int, entries: Iterable[tuple[Raw, int]], now: float) -> None:
        """Let (entry, attempt) wait, in this order."""
        for entry, attempt in entries:
            item = Item(entry, attempt, now)
            if entry[0] in self.alone:
                self._single.append(Load(key, (item,)))
            else:
                self._many.setdefault(key, deque()).append(item)

    def take(self, now: float, *, hurry: bool = False, most: int = JOURNAL_MAX) -> Load | None:
        """Take what is due.

        Arguments:
            now: monotonic seconds.
            hurry: do not wait for more.
            most: so many at most.
        """
        if self._single:
            return self._single.popleft()
        for key, items in self._many.items():
            if items and (hurry or self._due(key) <= now):
                count = min(len(items), self.gathers[key].size, most)
                return Load(key, [items.popleft() for _ in range(count)])
        return None

    def to_record(self, now: float) -> list[Item]:
        """Return what has waited for long and will go on waiting, and has no waiting record."""
        found = []
        for key, items in self._many.items():
            if items and self._due(key) > now:
                old = takewhile(lambda item: item.since <= now - RECORD_S, items)
                found += [item for item in old if item.entry[0] not in self.recorded]
        return found

    def put_back(self, load: Load) -> None:
        """Let entries wait again that were taken and could not be run."""
        if len(load.items) == 1 and load.items[0].entry[0] in self.alone:
            self._single.appendleft(load)
        else:
            self._many.setdefault(load.key, deque()).extendleft(reversed(load.items))

    def clear(self) -> list[Item]:
        """Forget all that waits, and return it; who has to run alone is still known."""
        items = self._items()
        self._single.clear()
        self._many.clear()
        self.recorded.clear()
        return items

    def _items(self) -> list[Item]:
        found = [item for load in self._single for item in load.items]
        return found + [item for items in self._many.values() for item in items]

    def _look(self, key: int) -> float:
        """Return when to look at what a handler has gathered."""
        items, due = self._many[key], self._due(key)
        if due <= items[0].since + RECORD_S:
            return due
        new = next((item.since for item in items if item.entry[0] not in self.recorded), due)
        return min(due, new + RECORD_S)

    def _due(self, key: int) -> float:
        items, gather = self._many[key], self.gathers[key]
        return 0.0 if len(items) >= gather.size else items[0].since + gather.wait_s


def said_done(result: object, places: Collection[str]) -> tuple[set[str], list[str]]:
    """Return which entries a batch handler says are done, and which of its words mean none of them.

    Arguments:
        result: an iterable of ids or messages.
        places: the ids of all entries of the call.

    Raises:
        TypeError: it is nothing of that kind.
    """
    if isinstance(result, str | bytes) or not isinstance(result, Iterable):
        raise TypeError(
            f"a batch handler returns the ids, or the messages, that are done, not {type(result).__name__}"
        )
    done: set[str] = set()
    strange: list[str] = []
    for one in result:
        word = one.decode("ascii", "replace") if isinstance(one, bytes) else getattr(one, "id", one)
        if isinstance(word, str) and word in places:
            done.add(word)
        else:
            strange.append(repr(one)[:100])
    return done, strange
