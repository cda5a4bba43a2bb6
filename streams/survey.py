"""The survey: what Redis says of one group at one moment, as plain values.

It changes nothing, takes two round trips, and asks only what costs the same however much is unread or
pending; a server that does not know the lag is asked to count it, in small steps. Names are as they were
written, by anybody: they must be made printable before they are shown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import redis

from . import bounds, breaker, fleet, keys, lease, marks
from .asking import Asker, Command, fields, good
from .entry import parse_id
from .letter import text_of
from .orders import Order, order, size
from .pending import NO_GROUP, NO_KEY, Pending, milliseconds, page, rows

_GARBLED = ("WRONGTYPE",)  # of a key that we keep: somebody else has written there, its keeper puts it right
_OURS = 6  # of the questions below, the first about such a key
LAG_MOST = 1000
LAG_BYTES = 4 << 20
LAG_STEP = 500  # the server does nothing else meanwhile
_UNREAD = Path(__file__).with_name("scripts").joinpath("unread.lua").read_text()


@dataclass(frozen=True, slots=True)
class Leader:
    """Who sweeps: in the words of the holder, under which epoch, for how long more (None: for ever)."""

    holder: str
    epoch: int
    left_ms: int | None

    def is_of(self, instance: str) -> bool:
        """Tell whether that instance's keeper leads."""
        return self.holder == instance or self.holder.startswith(f"{instance} ")


@dataclass(frozen=True, slots=True)
class Instance:
    """What is known of an instance.

    Arguments:
        name: of it.
        report: its last one; None when it never sent one, or one that we cannot read.
        lease_ms: how long its lease runs, unless it is renewed; None when it has none: it is gone.
        pending: entries that its slots own.
        drain: it has been told to drain and end.
        size: so many workers by an operator's order, 0 for as many as it thinks best; None without one.
    """

    name: str
    report: fleet.Report | None
    lease_ms: int | None
    pending: int = 0
    drain: Order | None = None
    size: int | None = None

    @property
    def alive(self) -> bool:
        """Tell whether its pool may act."""
        return self.lease_ms is not None

    def slots(self, state: str) -> int:
        """Return how many of its slots are idle, busy or down."""
        return sum(is_now == state for is_now in self.report.slots.values()) if self.report else 0


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer of the group; `instance` and `slot` are None when it is none of ours."""

    name: str
    pending: int
    idle_ms: int
    instance: str | None = None
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """A group of a stream. Times in Unix milliseconds of the server.

    Arguments:
        stream, group: names.
        now_ms: the server's clock.
        length: entries in the stream; None when there is no stream.
        exists: there is such a group.
        lag: entries that the group has not read; the least it can be if not `lag_known`.
        pending: entries read and not acknowledged.
        last_delivered: id of the last entry that was read.
        unread: id of the oldest entry that was not.
        oldest: the pending entry with the lowest id.
        untouched: of the thousand oldest pending entries the one that nobody has touched for longest.
        dlq, dead_letters: the dead-letter stream and its length.
        leader: None when nobody leads.
        epoch: the last fencing token that was given.
        instances: by name, those that are gone last.
        consumers: by name.
        pause: when and by whom the group was paused.
        swept: what sweeps have done, ever.
        breakers: event -> its circuit breaker, as the fleet shares it.
    """

    stream: str
    group: str
    now_ms: int
    length: int | None
    exists: bool
    lag: int
    lag_known: bool
    pending: int
    last_delivered: str
    unread: str | None
    oldest: Pending | None
    untouched: Pending | None
    dlq: str
    dead_letters: int
    leader: Leader | None
    epoch: int
    instances: tuple[Instance, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    pause: Order | None = None
    swept: dict[str, int] = field(default_factory=dict)
    breakers: dict[str, bytes] = field(default_factory=dict)

    @property
    def unread_ms(self) -> int | None:
        """Return the age of the oldest unread entry, by its id."""
        return None if self.unread is None else max(0, self.now_ms - parse_id(self.unread.encode())[0])

    @property
    def oldest_ms(self) -> int | None:
        """Return the age of the oldest pending entry, by its id."""
        return None if self.oldest is None else max(0, self.now_ms - self.oldest.created_ms)

    @property
    def living(self) -> list[Instance]:
        """Return the instances that have a lease."""
        return [instance for instance in self.instances if instance.alive]

    @property
    def foreign(self) -> list[Consumer]:
        """Return the consumers that belong to no instance."""
        return [consumer for consumer in self.consumers if consumer.instance is None]

    @property
    def found(self) -> bool:
        """Tell whether anything at all is known of the group."""
        return self.exists or bool(self.instances)


def survey(
    client: redis.Redis, stream: str, group: str, dlq: str | None = None, *, count_to: int = LAG_MOST
) -> Survey:
    """Look at a group.

    Arguments:
        client: whose connections are used; it stays the caller's to close.
        stream, group: names.
        dlq: the dead-letter stream, default `<stream>:dlq`.
        count_to: unread entries to count at most where the server does not know the lag (before 7.0).

    Raises:
        redis.exceptions.RedisError: the server cannot be asked, or refuses; see `connection.explain`.
    """
    asker = Asker(client)
    dlq = dlq or keys.dead_letter(stream)
    replies = asker.ask(
        ("TIME",),
        ("XLEN", stream),
        ("XINFO", "GROUPS", stream),
        ("XINFO", "CONSUMERS", stream, group),
        page(stream, group),
        ("XLEN", dlq),
        ("HGETALL", keys.instances(stream, group)),
        ("HGETALL", keys.orders(stream, group)),
        ("HGETALL", keys.swept(stream, group)),
        ("GET", keys.epoch(stream, group)),
        breaker.everything(stream, group),
        *lease_of(keys.leader(stream, group)),
    )
    clock, length, groups, consumers, oldest, letters, reports, orders, swept, epoch, breakers, *leader = (
        good(reply, NO_KEY, NO_GROUP, *(_GARBLED if at >= _OURS else ())) for at, reply in enumerate(replies)
    )
    mine = _group(groups or (), group)
    seats = [_consumer(row) for row in consumers or ()]
    names = {text_of(name): fleet.report(raw) for name, raw in fields(reports).items()}
    names |= {one.instance: None for one in seats if one.instance is not None and one.instance not in names}
    wanted = {text_of(name): order(raw) for name, raw in fields(orders).items()}
    sizes = {text_of(name): size(raw) for name, raw in fields(orders).items()}
    last = text_of(mine.get(b"last-delivered-id", b"0-0"))
    lag, asked = mine.get(b"lag"), list(names)
    more: list[Command] = [word for name in asked for word in lease_of(keys.lease(stream, group, name))]
    more.append(("XRANGE", stream, f"({last}", "+", "COUNT", 1))
    *held, newer = asker.ask(*more)
    answers = [*(good(reply, *_GARBLED) for reply in held), good(newer)]
    leases = {name: _left(*answers[2 * at : 2 * at + 2]) for at, name in enumerate(asked)}
    unread = answers[2 * len(asked)] if mine else []
    known = lag is not None or not mine
    if not known:
        lag, known = _count(asker, stream, last, count_to)
    # A name such as "db:1" may be anybody's: it is an instance's only if there ever was one.
    ours = {name for name in asked if names[name] is not None or leases[name] is not None}
    ours |= {text_of(name) for name in fields(reports)}
    seats = _folded(seats, ours)
    pending = [row.among(ours) for row in rows(oldest)]
    return Survey(
        stream=stream,
        group=group,
        now_ms=milliseconds(clock),
        length=length if groups is not None else None,
        exists=bool(mine),
        lag=lag or 0,
        lag_known=known,
        pending=mine.get(b"pending", 0),
        last_delivered=last,
        unread=text_of(unread[0][0]) if unread else None,
        oldest=pending[0] if pending else None,
        untouched=max(pending, key=lambda row: row.untouched_ms, default=None),
        dlq=dlq,
        dead_letters=letters,
        leader=_leader(*leader),
        epoch=_number(epoch),
        instances=tuple(
            Instance(
                name,
                names[name],
                leases[name],
                sum(one.pending for one in seats if one.instance == name),
                wanted.get(fleet.drain_order(name)),
                sizes.get(fleet.size_order(name)),
            )
            for name in sorted(ours, key=lambda name: (leases[name] is None, name))
        ),
        consumers=tuple(sorted(seats, key=lambda one: (one.instance or "", one.slot or 0, one.name))),
        pause=wanted.get(fleet.PAUSE),
        swept={text_of(name): _number(count) for name, count in sorted(fields(swept).items())},
        breakers=breaker.values(breakers),
    )


def known(asker: Asker, stream: str, group: str, consumers: Collection[str]) -> dict[str, bool]:
    """Return which instances own these consumers, and whether each lives; no others' names.

    The consumers are those of slots: see `pending.Pending`.

    Raises:
        redis.exceptions.RedisError: as for `survey`.
    """
    names = sorted({seat[0] for seat in map(keys.seat, consumers) if seat})
    questions: list[Command] = [("EXISTS", keys.lease(stream, group, name)) for name in names]
    questions += [("HEXISTS", keys.instances(stream, group), name) for name in names]
    replies = [good(reply) for reply in asker.ask(*questions)]
    answers = zip(names, replies[: len(names)], replies[len(names) :], strict=True)
    return {name: bool(lives) for name, lives, reported in answers if lives or reported}


def lease_of(key: str) -> tuple[Command, Command]:
    """Return the two questions about a lease."""
    return ("GET", key), ("PTTL", key)


def _count(asker: Asker, stream: str, last: str, most: int) -> tuple[int, bool]:
    """Count entries after an id; return how many, and whether these are all."""
    count = size = 0
    after: str | bytes | None = last
    while after is not None and count < most and size < LAG_BYTES:
        step = min(LAG_STEP, most - count)
        (reply,) = asker.ask(("EVAL", _UNREAD, 1, stream, after, step, LAG_BYTES - size))
        found, seen, after = good(reply)
        count, size = count + found, size + seen
    return count, after is None


def _left(value: bytes | None, left_ms: int) -> int | None:
    return None if value is None else max(0, left_ms)


def _leader(value: bytes | None, left_ms: int) -> Leader | None:
    if value is None:
        return None
    try:
        number = lease.epoch(value)
    except ValueError:  # not written by us
        number = 0
    return Leader(lease.holder(value), number, left_ms if left_ms >= 0 else None)


def _group(groups: Any, name: str) -> dict[bytes, Any]:
    found = (row for row in map(fields, groups) if text_of(row[b"name"]) == name)
    return next(found, {})


def _consumer(row: Any) -> Consumer:
    values = fields(row)
    name = text_of(values[b"name"])
    seat = keys.seat(marks.split(name)[0])
    instance, slot = seat or (None, None)
    return Consumer(name, values[b"pending"], values[b"idle"], instance, slot)


def _folded(seats: list[Consumer], ours: Collection[str]) -> list[Consumer]:
    """Return the consumers: those of a slot as one, those of no instance as strangers."""
    found: dict[str, Consumer] = {}
    for one in seats:
        if one.instance not in ours:
            found[one.name] = Consumer(one.name, one.pending, one.idle_ms)
            continue
        name = marks.split(one.name)[0]
        before = found.get(name, Consumer(name, 0, one.idle_ms, one.instance, one.slot))
        pending, idle_ms = before.pending + one.pending, min(before.idle_ms, one.idle_ms)
        found[name] = replace(before, pending=pending, idle_ms=idle_ms)
    return list(found.values())


def _number(raw: bytes | None) -> int:
    try:
        return bounds.whole(int(raw or 0), 0, bounds.COUNT_MAX)
    except ValueError:
        return 0
