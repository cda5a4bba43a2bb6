"""Fleet: one consumer group of a stream, with all its instances, looked at and told what to do.

What the commands of `rsq` do is here; they add words for a person and exit codes. It works from anywhere that
reaches the server, and needs no pool on its own host.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..streams import acl, keys
from ..streams import pending as entries
from ..streams.asking import Asker
from ..streams.bounds import SECONDS_MAX, TIMEOUT_LEAST_S, number
from ..streams.connection import RedisError, Target, client, explain, target
from ..streams.deadletter import DeadLetters
from ..streams.idempotence import memory
from ..streams.orders import WORKERS_MAX, Order, Orders
from ..streams.pending import Pending
from ..streams.replication import replication
from ..streams.survey import LAG_MOST, Survey, known, survey
from . import checking
from .breakerbox import BreakerBox
from .checking import Finding as Finding
from .checking import Grade as Grade
from .checking import Limits as Limits
from .fleeterrors import FleetError as FleetError
from .fleeterrors import NoBreaker as NoBreaker
from .fleeterrors import NoGroup as NoGroup
from .fleeterrors import NoInstance as NoInstance
from .fleeterrors import NotInTime as NotInTime
from .remaining import not_paused, not_sized, not_told, still_there
from .suggesting import Suggestion as Suggestion
from .suggesting import suggest

if TYPE_CHECKING:
    from pathlib import Path

    from .view import PoolView

POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Health:
    """What a check has found: the worst grade, and all findings."""

    grade: Grade
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Some pending entries.

    Arguments:
        rows: the entries, in the order of their ids.
        alive: instance -> whether it lives, for the owners that are instances.
    """

    rows: list[Pending]
    alive: Mapping[str, bool]


@dataclass(frozen=True, slots=True)
class Found:
    """The pending entries that were asked for.

    Arguments:
        now_ms: the server's clock, Unix ms.
        total: how many entries are pending, asked for or not.
        pages: the entries, a thousand at a time, each asked for when it is taken.
    """

    now_ms: int
    total: int
    pages: Iterator[Page]


@dataclass(frozen=True, slots=True)
class Ordered:
    """An order that was given; it is carried out by the instances, each as soon as it can.

    Arguments:
        new: the fleet was not told before.
        order: the one that stands, None when it was one taken back.
        seen: the fleet as it was before.
        left: asks the server what is still to be done, in words; empty when it is done everywhere.
    """

    new: bool
    order: Order | None
    seen: Survey
    left: Callable[[], str]

    def wait(self, timeout_s: float = 300.0, tell: Callable[[str], None] = lambda _: None) -> None:
        """Return when it is done everywhere.

        Arguments:
            timeout_s: the longest to wait; 0 is for ever.
            tell: is called with what is left, again and again.

        Raises:
            NotInTime: it is not done yet; the order stands.
            redis.exceptions.RedisError: the server cannot be asked; the order stands.
        """
        deadline = time.monotonic() + number(timeout_s, 0, SECONDS_MAX)
        while words := self.left():
            if timeout_s and time.monotonic() > deadline:
                raise NotInTime(f"not done after {timeout_s:g} s, the order stands: {words}")
            tell(words)
            time.sleep(POLL_S)


class Fleet:
    """A group and its instances. Threads may share it.

    Every call may raise redis-py's `RedisError` if the server cannot be asked or refuses; `explain` puts that
    into a line with what to do.
    """

    def __init__(
        self,
        server: str | Target = "redis://localhost:6379/0",
        stream: str = "events",
        group: str = "workers",
        *,
        dlq: str | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """Prepare it; nothing is asked of the server yet.

        Arguments:
            server: its URL, as everywhere: also sentinels, a cluster, `embedded`.
            stream, group: names.
            dlq: the stream of dead letters, by default the one that a pool would write to.
            timeout_s: seconds to wait for a connection, and for each answer.

        Raises:
            ValueError: one line about the URL, or about names that a cluster would scatter.
        """
        found = target(server) if isinstance(server, str) else server
        self.server, self.stream, self.group = found.for_key(stream), stream, group
        self.dlq = dlq or keys.dead_letter(stream, cluster=found.cluster)
        keys.refuse_ours(stream)
        if found.cluster:
            keys.refuse_scattered(stream, self.dlq)
        timeout_s = number(timeout_s, TIMEOUT_LEAST_S, SECONDS_MAX)
        self._client = client(self.server, timeout_s=timeout_s, name="rsq")
        self._asker = Asker(self._client)
        self._orders = Orders(self._client, stream, group)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def explain(self, error: RedisError) -> str:
        """Return what an error of the server means, and what to do, in a line."""
        return explain(error, self.server)

    def status(self, *, count_to: int = LAG_MOST) -> Survey:
        """Return what Redis says of the group now, of its instances, leader, entries and dead letters.

        Arguments:
            count_to: unread entries to count at most where the server does not know how many they are.
        """
        return survey(self._client, self.stream, self.group, self.dlq, count_to=count_to)

    def check(self, limits: Limits | None = None) -> Health:
        """Return whether the group is well. Raises nothing: a server that cannot be asked is a finding."""
        limits = limits or Limits()
        count = LAG_MOST if limits.lag is None else min(limits.lag + 1, checking.COUNT_MOST)
        try:
            seen = self.status(count_to=count)
            (stream,) = self._asker.ask(("XINFO", "STREAM", self.stream))
            found = checking.findings(seen, limits, replication(self._asker), memory(stream))
        except RedisError as error:
            found = checking.cannot_tell(self.explain(error))
        return Health(checking.worst(found), tuple(found))

    def pending(
        self, *, consumer: str | None = None, untouched_s: float = 0.0, limit: int = 0
    ) -> Iterator[Pending]:
        """Return the pending entries, the oldest first; they are asked for a thousand at a time.

        Arguments:
            consumer: only what this one owns, such as `web-1:0`.
            untouched_s: only what nobody has touched for so many seconds.
            limit: at most so many; 0 is all.

        Raises:
            NoGroup: there is none.
        """
        found = self.find_pending(consumer=consumer, untouched_s=untouched_s, limit=limit)
        return (row for page in found.pages for row in page.rows)

    def find_pending(self, *, consumer: str | None = None, untouched_s: float = 0.0, limit: int = 0) -> Found:
        """Return pending entries with how many there are in all, and which of their owners live.

        Arguments:
            consumer, untouched_s, limit: see `pending`.

        Raises:
            NoGroup: there is none.
        """
        now_ms, total = entries.total(self._asker, self.stream, self.group)
        if total is None:
            raise NoGroup(self.stream, self.group)
        found = entries.oldest_first(
            self._asker, self.stream, self.group,
            consumer=consumer, untouched_ms=int(untouched_s * 1000), limit=limit,
        )  # fmt: skip
        return Found(now_ms, total, map(self._page, found))

    def pause(self, reason: str = "", *, by: str | None = None) -> Ordered:
        """Let no instance start anything new, until `resume`; handlers that run now finish.

        It stays so over restarts. A fleet that is paused already stays as it is, with its first reason.

        Arguments:
            reason: for those who will see it.
            by: who wants it, by default this user and host.

        Raises:
            NoGroup: there is none.
        """
        seen = self.status()
        if not seen.found:
            raise NoGroup(self.stream, self.group)
        given = _order(reason, by)
        stood = self._orders.pause(given, [one.name for one in seen.living])
        return Ordered(stood is None, stood or given, seen, lambda: not_paused(seen, self.status()))

    def resume(self) -> Ordered:
        """Let a paused fleet go on; `new` says whether it was paused.

        Raises:
            NoGroup: there is none.
        """
        seen = self.status()
        if not seen.found and not seen.pause:
            raise NoGroup(self.stream, self.group)
        was = self._orders.resume([one.name for one in seen.living])
        return Ordered(was, None, seen, lambda: not_told(seen, self.status()))

    def drain(self, instance: str, *, by: str | None = None) -> Ordered:
        """Let an instance finish what it runs, hand back the rest, and end.

        The order stands until it is taken back: an instance of this name that starts again ends again. Take
        it back with `undrain` when it is carried out.

        Raises:
            NoInstance: none of this name is alive.
        """
        seen = self.status()
        found = {one.name: one for one in seen.instances}.get(instance)
        if found is None or not found.alive:
            alive = ", ".join(one.name for one in seen.living[:20]) or "none"
            what = f"instance {instance} is gone" if found else f"there is no instance {instance}"
            raise NoInstance(f"{self.stream} / {self.group}: {what}; alive: {alive}")
        given = _order("", by)
        new = self._orders.drain(instance, given)
        return Ordered(new, given if new else found.drain, seen, lambda: still_there(instance, self.status()))

    def undrain(self, instance: str) -> bool:
        """Take the order to drain back; return whether there was one."""
        return self._orders.undrain(instance)

    def scale(
        self, workers: int, instances: Collection[str] | None = None, *, by: str | None = None
    ) -> Ordered:
        """Let instances have so many workers each, until they are told otherwise; over restarts too.

        Arguments:
            workers: how many; 0 for as many as each is configured for.
            instances: their names; None for every one that lives.
            by: who wants it, by default this user and host.

        Raises:
            NoGroup: there is none.
            NoInstance: one of these names is not alive, or nobody is.
            ValueError: that many workers cannot be.
        """
        if not 0 <= workers <= WORKERS_MAX:
            raise ValueError(f"an instance has 1 to {WORKERS_MAX} workers, not {workers}")
        seen = self.status()
        if not seen.found:
            raise NoGroup(self.stream, self.group)
        living = [one.name for one in seen.living]
        names = living if instances is None else list(instances)
        if gone := [name for name in names if name not in living]:
            raise NoInstance(f"no living instance {gone[0]}; alive: {', '.join(living[:20]) or 'none'}")
        if not names:
            raise NoInstance(f"{self.stream} / {self.group}: no instance lives")
        given = _order("", by)
        for name in names:
            self._orders.scale(name, workers, given)
        return Ordered(
            True, given if workers else None, seen, lambda: not_sized(seen, self.status(), names, workers)
        )

    def suggest(self, target_s: float = 30.0, least: int = 0, most: int | None = None) -> Suggestion:
        """Return how many workers the group needs to clear its backlog in time.

        Arguments:
            target_s: how long a backlog may take, seconds.
            least, most: how few and how many workers may be suggested.

        Raises:
            NoGroup: there is none.
        """
        seen = self.status()
        if not seen.found:
            raise NoGroup(self.stream, self.group)
        return suggest(seen, target_s, least, most)

    @property
    def breakers(self) -> BreakerBox:
        """The circuit breakers of the group's events: all, open, close."""
        return BreakerBox(self.stream, self.group, self._asker.ask)

    @property
    def dead_letters(self) -> DeadLetters:
        """The dead letters of the stream: count, get, iterate, replay, purge."""
        return DeadLetters(self._client, self.stream, self.dlq)

    def acl(self, user: str = "rsq") -> list[str]:
        """Return the words of the command that gives a user the least rights that a pool needs.

        Nothing is sent. The command replaces the user's rights and leaves its passwords alone.
        """
        return acl.words(user, self.stream, self.group, self.dlq)

    def _page(self, rows: list[Pending]) -> Page:
        alive = known(self._asker, self.stream, self.group, {row.consumer for row in rows})
        return Page([row.among(alive) for row in rows], alive)


def local_pools(
    directory: str | Path | None = None,
    *,
    stream: str | None = None,
    group: str | None = None,
    instance: str | None = None,
) -> list[PoolView]:
    """Return the pools of this host, also those that are gone or hang: what they left in memory is read.

    Arguments:
        directory: their runtime directory, by default every one in which this user may see pools.
        stream, group, instance: only those of this name.
    """
    from pathlib import Path

    from .runtime import runtime_dirs
    from .status import Filters, find

    directories = [Path(directory)] if directory else runtime_dirs()
    return find(directories, Filters(stream, group, instance))[0]


def _order(reason: str, by: str | None) -> Order:
    if by is None:
        user = str(os.getuid())
        with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
            user = getpass.getuser()
        by = f"{user}@{socket.gethostname()}"
    return Order(by, round(time.time(), 3), reason)
