"""The steps of a sweep: scripts that a leader sends, and what they answer.

Pure: commands packed, replies taken apart. Every script begins by comparing the leader's epoch with its
lease, and looks again at everything that made the leader send it. So a leader who is late, or was deposed,
changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import hiredis

from . import keys, marks, waiting
from .group import Group, pack
from .letter import MAKE
from .marks import RESTING_MS, Mark, Reading

HOST_LOST = "host lost"
_SCRIPTS = Path(__file__).with_name("scripts")
_FENCE, _ROWS, _HANDOVER, _BURY, _TRIM, _REMOVE, _RESTORE, _TIDY = (
    _SCRIPTS.joinpath(f"{name}.lua").read_bytes()
    for name in ("fence", "rows", "handover", "bury", "trim", "remove", "restore", "tidy")
)
_WAITING = marks.BULK + waiting.script(5, 6)
_STORY = "its attempts were used up by hosts that were lost while they had it"


class Moved(IntEnum):
    """What became of an entry that was to be handed over or buried."""

    NOT = 0  # acknowledged, another's, in hand again, or of an owner who is back
    DONE = 1
    CHARGED = 2  # handed over as a suspect: the attempt that may have run is charged
    LOST = 3  # its payload is gone from the stream: acknowledged


@dataclass(frozen=True, slots=True)
class Claim:
    """On what ground entries of a consumer may be taken from it; looked at again by the scripts.

    Arguments:
        owner: consumer, as the server has it; empty for entries without an owner.
        instance: name of the instance whose lease counts; empty if there is none.
        must_be_gone: nothing may be done while the instance has a lease.
        held_ms: least idle time of an entry that is held; -1: it is left alone.
        rested_ms: how long an entry that rests must have rested.
        mark: what the owner's name says of all its entries; HELD: their idle times say it.
    """

    owner: bytes
    instance: str
    must_be_gone: bool
    held_ms: int
    rested_ms: int
    mark: Mark = Mark.HELD

    def read(self, idle_ms: int) -> Reading:
        """Return the mark of an entry of the owner, and for how long nobody has touched it."""
        return marks.read(self.mark, idle_ms)

    @property
    def slot(self) -> bytes:
        """Return the name of the consumer that the owner stands for."""
        if self.mark is Mark.HELD:
            return self.owner
        return marks.split(self.owner.decode("utf-8", "surrogateescape"))[0].encode(
            "utf-8", "surrogateescape"
        )


class Target(NamedTuple):
    """A slot of the fleet, to which entries may be handed.

    Arguments:
        instance, slot: of it.
        old: its instance's version does not know the owners that have a mark.
    """

    instance: str
    slot: int
    old: bool = False


class Steps:
    """The steps, for one group and one term of its leader."""

    def __init__(self, stream: str, group: str, dlq: str, most: int, epoch: int) -> None:
        """Name what is swept.

        Arguments:
            stream, group, dlq: names.
            most: attempts that an entry has.
            epoch: fencing token of the leader.
        """
        self._stream, self._group, self._dlq, self._most = stream, group, dlq, most
        self._epoch = epoch
        self._own = (stream, keys.leader(stream, group), keys.swept(stream, group))
        self._records = (keys.waiting(stream, group), keys.stories(stream, group))

    def look(self) -> list[bytes]:
        """XINFO CONSUMERS (`group.info_rows`), HGETALL of the reports, XPENDING's summary."""
        return [
            Group(self._stream, self._group, "").consumers(),
            pack("HGETALL", keys.instances(self._stream, self._group)),
            pack("XPENDING", self._stream, self._group),
        ]

    def lives(self, instance: str) -> bytes:
        """EXISTS of an instance's lease."""
        return pack("EXISTS", self._lease(instance))

    def page(self, owner: bytes, first: bytes, count: int, *, resting: bool) -> bytes:
        """XPENDING of one consumer, for `group.pending_rows`.

        Arguments:
            owner: its name.
            first: start of the range of ids.
            count: most rows.
            resting: only what its idle time says that it rests; costs a look at everything the owner has.
        """
        idle = ("IDLE", RESTING_MS) if resting else ()
        return pack("XPENDING", self._stream, self._group, *idle, first, "+", count, owner)

    def ownerless(self, first: bytes, count: int) -> bytes:
        """XPENDING of all consumers, for `group.pending_rows`."""
        return pack("XPENDING", self._stream, self._group, first, "+", count)

    def handover(self, claim: Claim, ids: Sequence[bytes], target: Target, inbox_ttl_ms: int) -> bytes:
        """EVAL that hands entries to a slot, where they rest; for `moved`.

        Arguments:
            claim: whose they are, and on what ground they are taken.
            ids: entries, in ascending order.
            target: who gets them; nothing is done if that instance has no lease.
            inbox_ttl_ms: how long the word to its keeper is kept.
        """
        consumer = keys.consumer(target.instance, target.slot)
        places = (marks.place(consumer, mark, old=target.old) for mark in (Mark.RESTING, Mark.SUSPECT))
        words = (*(word for place in places for word in place), target.slot, inbox_ttl_ms)
        where = (self._lease(target.instance), keys.inbox(self._stream, self._group, target.instance))
        return self._move(_FENCE + _WAITING + _ROWS + _HANDOVER, claim, where, words, ids)

    def bury(self, claim: Claim, ids: Sequence[bytes], now_ms: int) -> bytes:
        """EVAL that moves entries whose attempts are used up to the dead letters; for `moved`.

        Arguments:
            claim: whose they are, and on what ground they are taken.
            ids: entries, in ascending order.
            now_ms: Unix time of the sweep, for the letters.
        """
        story = (HOST_LOST, _STORY, now_ms, claim.slot)
        return self._move(MAKE + _FENCE + _WAITING + _ROWS + _BURY, claim, (self._dlq,), story, ids)

    def trim(self, kind: str, amount: float, limit: int) -> bytes:
        """EVAL that removes old entries; for `trimmed`.

        Arguments:
            kind: acked, maxlen or age.
            amount: maxlen: how many entries are kept; age: for how many seconds.
            limit: most entries to remove.
        """
        number = int(amount * 1000) if kind == "age" else int(amount)
        return self._eval(_FENCE + _TRIM, (), kind, number, limit)

    def remove(
        self,
        instance: str,
        consumers: Sequence[bytes],
        ttl_ms: int,
        *,
        forget: bool,
        marked: Sequence[bytes] = (),
    ) -> bytes:
        """EVAL that removes consumers which have nothing pending; returns the names of those.

        Arguments:
            instance: whose they are; nothing else is done while it has a lease. Empty: of none.
            consumers: their names.
            ttl_ms: least idle time.
            forget: remove the instance's report, too, once it has no consumer.
            marked: owners that have a mark: removed whether it has a lease or not, and not returned.
        """
        where = (self._lease(instance), keys.instances(self._stream, self._group))
        return self._eval(
            _FENCE + marks.SCRIPT + _REMOVE,
            where,
            instance,
            ttl_ms,
            int(forget),
            len(marked),
            *marked,
            *consumers,
        )

    def records(self, ids: Sequence[bytes]) -> bytes:
        """HMGET of the waiting records of entries; for `waiting.unstarted`."""
        return pack("HMGET", self._records[0], *ids)

    def tidy(self, which: str, cursor: bytes, count: int) -> bytes:
        """EVAL that removes records or stories of what is pending no more; returns a cursor, and how many.

        Arguments:
            which: waiting or stories.
            cursor: 0 to begin with; 0 is returned when all were looked at, -1 when it cannot be done.
            count: how many to look at, about.
        """
        return self._eval(_FENCE + waiting.script(4, 5) + _TIDY, self._records, cursor, count, which)

    def restore(self, start_id: str, *, count: bool) -> bytes:
        """EVAL that creates the group if it is missing; returns 1 if it was.

        Arguments:
            start_id: from which on it reads.
            count: it is known to have been there.
        """
        return self._eval(_FENCE + _RESTORE, (), start_id, int(count))

    def _move(
        self,
        script: bytes,
        claim: Claim,
        where: Iterable[str],
        words: Sequence[bytes | str | int],
        ids: Sequence[bytes],
    ) -> bytes:
        ground = (
            claim.owner,
            int(claim.must_be_gone),
            claim.held_ms,
            claim.rested_ms,
            self._most,
            claim.mark,
        )
        first = 2 + len(ground) + 1 + len(words) + 1  # behind the epoch, the group, and this
        names = (self._lease(claim.instance), *self._records, *where)
        return self._eval(script, names, *ground, first, *words, *ids)

    def _eval(self, script: bytes, where: Iterable[str], *words: bytes | str | int) -> bytes:
        names = (*self._own, *where)
        return pack("EVAL", script, len(names), *names, self._epoch, self._group, *words)

    def _lease(self, instance: str) -> str:
        return keys.lease(self._stream, self._group, instance)


def is_fenced(reply: Any) -> bool:
    """Tell whether a script found that somebody else leads."""
    return isinstance(reply, hiredis.ReplyError) and "FENCED" in str(reply)


def moved(ids: Sequence[bytes], reply: Any) -> tuple[dict[bytes, Moved], str]:
    """Return what became of entries, and what the server complained about, if it did.

    Those behind a complaint or behind large payloads are missing, as are all when the target is gone: nothing
    was done with them.
    """
    done: dict[bytes, Moved] = {}
    for entry, code in zip(ids, reply, strict=False):
        if not isinstance(code, int):
            return done, bytes(code).decode("utf-8", "replace")
        done[entry] = Moved(code)
    return done, ""


def ownerless(summary: Any) -> int:
    """Return how many entries of XPENDING's summary have no owner."""
    total, _, _, consumers = summary
    return int(total) - sum(int(number) for _, number in consumers or ())


class Trimmed(NamedTuple):
    """What trimming did, and who keeps it from doing more."""

    removed: int
    more: bool  # another call may remove more
    holder: bytes  # group; empty if there is none, or that is not known yet
    behind_ms: int  # how much older than the newest entry the first one is that the group needs


def trimmed(reply: Any) -> Trimmed:
    """Return what the script for trimming says."""
    removed, more, holder, behind_ms = reply
    return Trimmed(int(removed), bool(more), bytes(holder), int(behind_ms))
