"""A keeper's beat: what it asks of the server, and what the answer says. Pure.

One script does all of it, so an idle pool costs the server two commands per beat: this one, and the wait
for the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import fleet, keys, marks, waiting
from . import lease as leases
from .group import pack, pending_rows

_SCRIPT = Path(__file__).with_name("scripts").joinpath("beat.lua").read_bytes()
_BEAT = leases.SCRIPT + marks.BULK + waiting.script(8, 9) + _SCRIPT
PAGE = 1000  # pending entries that one script looks at
START = (1, b"-")


@dataclass(frozen=True, slots=True)
class Who:
    """The names that every beat of one keeper has in it.

    Arguments:
        stream, group, instance: of the pool.
        token: random, no spaces; whoever has it goes on with the leases.
        holder: whom people are told to hold the instance lease.
        lease_ms: how long both leases are given for.
        swept: names of the counters to fetch.
    """

    stream: str
    group: str
    instance: str
    token: str
    holder: str
    lease_ms: int
    swept: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Beat:
    """What the server said to a beat.

    Arguments:
        lease: the instance lease. When another holds it, nothing else is known.
        lead: the leader lease; lead_epoch: its fencing token, whoever has it.
        pause: the order to pause as it was given, None without one.
        drain: the order to drain this instance, None without one.
        size: the order of how many workers it is to have, None without one.
        swept: the counters asked for, in order.
        more: where the next page begins, None when all pages were looked at.
        resting: how many entries that rest were seen, for each slot whose entries are renewed.
        let_go: how many entries were made suspects, for each slot that was let go.
        trouble: why the pending entries could not be looked at; empty if they could.
    """

    lease: leases.Term
    lead: leases.Term | None = None
    lead_epoch: int = 0
    pause: bytes | None = None
    drain: bytes | None = None
    size: bytes | None = None
    swept: tuple[int, ...] = ()
    more: tuple[int, bytes] | None = None
    resting: tuple[int, ...] = ()
    let_go: tuple[int, ...] = ()
    trouble: str = ""


def beat(
    who: Who, report: bytes, slots: Sequence[int], gone: Sequence[int], page: tuple[int, bytes] = START
) -> bytes:
    """EVAL that goes on with the leases, reports, fetches orders, and renews what the slots hold.

    Arguments:
        who: the keeper.
        report: see `fleet.Report`.
        slots: whose entries are renewed once they are older than a third of the lease.
        gone: whose entries are made suspects, for other slots to take.
        page: where to begin, from the `more` of an answer for the same slots.
    """
    own = (who.stream, who.group)
    names = (
        keys.lease(*own, who.instance), keys.epoch(*own), keys.leader(*own), keys.instances(*own),
        keys.orders(*own), keys.swept(*own), who.stream, keys.waiting(*own),
        keys.stories(*own),
    )  # fmt: skip
    consumers = [keys.consumer(who.instance, slot) for slot in (*slots, *gone)]
    return pack(
        "EVAL", _BEAT, len(names), *names,
        who.token, who.holder, who.instance, who.lease_ms, report, fleet.drain_order(who.instance),
        fleet.size_order(who.instance), who.group,
        who.lease_ms // 3, PAGE, *page, len(who.swept), len(slots),
        *who.swept, *consumers,
    )  # fmt: skip


def parse(reply: Any) -> Beat:
    """Return the answer to `beat` as a value."""
    term = leases.term(reply[0])
    if not term.held:
        return Beat(term)
    _, lead, pause, drain, size, swept, number, first, resting, gone, trouble = reply
    return Beat(
        term,
        leases.term(lead),
        leases.epoch(lead[3]),
        pause,
        drain,
        size,
        tuple(_count(value) for value in swept),
        (number, first) if number else None,
        tuple(resting),
        tuple(gone),
        trouble.decode("utf-8", "replace") if trouble else "",
    )


def listen(who: Who, seconds: float) -> bytes:
    """BLPOP that waits for a word to this instance's keeper; for `heard`."""
    return pack("BLPOP", keys.inbox(who.stream, who.group, who.instance), f"{max(0.01, seconds):.3f}")


def heard(reply: Any) -> bytes | None:
    """Return the word that came, None when there was none in time."""
    return reply[1] if reply else None


def owner(stream: str, group: str, entry: bytes) -> bytes:
    """XPENDING of one entry; for `is_of`."""
    return pack("XPENDING", stream, group, entry, entry, 1)


def is_of(reply: Any, consumer: str) -> bool:
    """Tell whether an entry is pending in a slot, by the reply to `owner`.

    Arguments:
        reply: no error.
        consumer: of the slot.
    """
    return any(row.slot == consumer.encode("utf-8", "surrogateescape") for row in pending_rows(reply))


def forget_order(who: Who) -> bytes:
    """HDEL of the order to drain this instance: it is carried out."""
    return pack("HDEL", keys.orders(who.stream, who.group), fleet.drain_order(who.instance))


def report(who: Who, words: bytes) -> bytes:
    """HSET of a report on its own: the last one."""
    return pack("HSET", keys.instances(who.stream, who.group), who.instance, words)


def release(who: Who) -> tuple[bytes, bytes]:
    """Let go of both leases, so that others go on at once."""
    own = (who.stream, who.group)
    names = (keys.leader(*own), keys.lease(*own, who.instance))
    return leases.release(names[0], who.token), leases.release(names[1], who.token)


def _count(value: bytes | None) -> int:
    # 18 digits fit into a cell; more have not been counted.
    return int(value) if value and value.isdigit() and len(value) <= 18 else 0
