"""The consumer group, as one consumer speaks to it: commands packed, replies taken apart.

Pure: bytes out, parsed replies in. What a command guarantees is said here, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import hiredis

from . import keys, marks, waiting
from .entry import Raw, format_id, parse_id
from .marks import RESTING_MS, Mark

_LAST = "+"
_HEADS = tuple(b"\r\n$%d\r\n" % size for size in range(42))  # RESP, by the size of an id: two numbers, a dash
SCRIPT_MAX = 100  # entries in one script: the server serves nobody else meanwhile
_WAIT_MAX_MS = 10**12  # some thirty years
_SCRIPTS = Path(__file__).with_name("scripts")
_CLAIM = marks.BULK + waiting.script(2, 3) + _SCRIPTS.joinpath("claim.lua").read_bytes()
_VERDICT = marks.SCRIPT + waiting.script(2, 3) + _SCRIPTS.joinpath("verdict.lua").read_bytes()
_ACK = marks.SCRIPT + _SCRIPTS.joinpath("ack.lua").read_bytes()


def pack(*words: bytes | str | int) -> bytes:
    """Return a command as RESP; text is sent as the bytes it was made of."""
    packed: bytes = hiredis.pack_command(
        tuple(word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word for word in words)  # type: ignore[arg-type]
    )
    return packed


class Group:
    """Commands of one consumer of one group of one stream."""

    def __init__(self, stream: str, group: str, consumer: str) -> None:
        """Name the three; nothing is sent."""
        self.stream, self.group, self.consumer = stream, group, consumer
        self._keys = (stream, keys.waiting(stream, group), keys.stories(stream, group))
        names = [name.encode("utf-8", "surrogateescape") for name in (stream, group)]
        self._ack_tail = b"\r\n$4\r\nXACK\r\n" + b"\r\n".join(
            b"$%d\r\n%s" % (len(name), name) for name in names
        )
        self._reads: dict[tuple[int, int | None], bytes] = {}

    def create(self, start_id: str) -> bytes:
        """XGROUP CREATE with MKSTREAM: error BUSYGROUP when it exists."""
        return pack("XGROUP", "CREATE", self.stream, self.group, start_id, "MKSTREAM")

    def create_consumer(self) -> bytes:
        """XGROUP CREATECONSUMER: an empty read alone may not reach a replica."""
        return pack("XGROUP", "CREATECONSUMER", self.stream, self.group, self.consumer)

    def read(self, count: int, block_ms: int | None) -> bytes:
        """XREADGROUP of entries never delivered before; `block_ms` None answers at once."""
        packed = self._reads.get((count, block_ms))
        if packed is None:
            block: tuple[str | int, ...] = () if block_ms is None else ("BLOCK", block_ms)
            who = (self.group, self.consumer)
            packed = pack("XREADGROUP", "GROUP", *who, "COUNT", count, *block, "STREAMS", self.stream, ">")
            if len(self._reads) > 256:  # COUNT and BLOCK vary; keep what a steady state uses
                self._reads.clear()
            self._reads[count, block_ms] = packed
        return packed

    def ack(self, ids: Sequence[bytes]) -> bytes:
        """XACK: removes from the pending list, whoever owns the entry there."""
        words = [b""] * (2 * len(ids))
        words[::2] = map(_HEADS.__getitem__, map(len, ids))
        words[1::2] = ids
        return b"".join((b"*%d" % (3 + len(ids)), self._ack_tail, *words, b"\r\n"))

    def ack_own(self, ids: Sequence[bytes]) -> bytes:
        """EVAL that acknowledges what this slot still has, and nothing else."""
        return pack("EVAL", _ACK, 1, self.stream, self.group, self.consumer, *ids)

    def claim(self, counters: Mapping[bytes, int]) -> bytes:
        """EVAL that sets held own entries' delivery counters, their idle time to zero, and returns payloads.

        They are about to be started: their waiting records are removed.

        Arguments:
            counters: id -> delivery counter to set.
        """
        return self._claim(_pairs(counters), "drop", payload=1, which="held")

    def claim_suspect(self, entry: bytes, counter: int) -> bytes:
        """EVAL that takes an own entry which rests into hand to start it, and returns its payload."""
        return self._claim((entry, counter), "drop", payload=1, which="rests")

    def set_counters(self, counters: Mapping[bytes, int]) -> bytes:
        """EVAL that sets own entries' delivery counters, and their idle time to zero."""
        return self._claim(_pairs(counters), "keep")

    def let_wait(self, rows: Mapping[bytes, tuple[int, float]]) -> bytes:
        """EVAL that sets own entries' delivery counters, and records them as not started.

        Arguments:
            rows: id -> (number of the attempt that comes next, seconds until then).
        """
        words: list[bytes | int] = []
        for entry, (attempt, left_s) in rows.items():
            words += [entry, attempt, int(min(max(left_s, 0.0) * 1000, _WAIT_MAX_MS))]
        return self._claim(words, "put")

    def take(self, counters: Mapping[bytes, int], owner: str | None = None) -> bytes:
        """EVAL that takes entries which rest into hand, their delivery counters set; for `taken`.

        Arguments:
            counters: id -> delivery counter to set.
            owner: consumer who has them, None for this one.
        """
        return self._claim(_pairs(counters), "take", owner=owner, which="rests")

    def hand_back(self, counters: Mapping[bytes, int], *, suspect: bool = False) -> bytes:
        """EVAL that lets own entries rest: anybody may take them; suspects are to be run alone."""
        return self._claim(_pairs(counters), "keep", mark=Mark.SUSPECT if suspect else Mark.RESTING)

    def _claim(
        self,
        words: Iterable[bytes | int],
        recorded: str,
        *,
        owner: str | None = None,
        mark: Mark = Mark.HELD,
        payload: int = 0,
        which: str = "any",
    ) -> bytes:
        who = (self.group, owner or self.consumer, self.consumer, marks.owner(self.consumer, mark))
        how = (payload, which, recorded)
        return pack("EVAL", _CLAIM, len(self._keys), *self._keys, *who, *how, *words)

    def keep_letter(self, entry: bytes, counter: int, attempts: int, outcome: int, story: bytes) -> bytes:
        """EVAL that notes of an own entry that it only waits for its dead letter, with the story for it.

        Arguments:
            entry: its id.
            counter: delivery counter to set.
            attempts: that were started.
            outcome: how they ended.
            story: what `stories` returns to whoever writes the letter.
        """
        who = (self.group, self.consumer)
        words = (entry, counter, attempts, int(outcome), story)
        return pack("EVAL", _VERDICT, len(self._keys), *self._keys, *who, *words)

    def records(self, ids: Sequence[bytes]) -> bytes:
        """HMGET of the waiting records of entries; for `waiting.unstarted`."""
        return pack("HMGET", self._keys[1], *ids)

    def stories(self, ids: Sequence[bytes]) -> bytes:
        """HMGET of the stories of dead letters that could not be written yet."""
        return pack("HMGET", self._keys[2], *ids)

    def resting(self, count: int, consumer: str | None = None) -> list[bytes]:
        """XPENDING of a slot's entries that rest, by each of its owners; for `merged`."""
        plain, *marked = marks.owners(consumer or self.consumer)
        where = ("XPENDING", self.stream, self.group)
        old = pack(*where, "IDLE", RESTING_MS, "-", _LAST, count, plain)
        return [old, *(pack(*where, "-", _LAST, count, owner) for owner in marked)]

    def pending(self, owner: str, first: bytes, count: int) -> bytes:
        """XPENDING of an owner: ids from `first` ("(" excludes it) on; for `pending_rows`."""
        return pack("XPENDING", self.stream, self.group, first, _LAST, count, owner)

    def consumers(self) -> bytes:
        """XINFO CONSUMERS."""
        return pack("XINFO", "CONSUMERS", self.stream, self.group)

    def look(self, entry: bytes) -> bytes:
        """XRANGE of a single entry."""
        return pack("XRANGE", self.stream, entry, entry)


def entries(reply: Any) -> list[Raw]:
    """Return the entries of an XREADGROUP reply of one stream."""
    if not reply:
        return []
    found: list[Raw] = reply[0][1]
    return found


def _pairs(counters: Mapping[bytes, int]) -> Iterable[bytes | int]:
    return (word for pair in counters.items() for word in pair)


def taken(reply: Any) -> list[waiting.Wait | int]:
    """Return what became of entries that `take` named: a record for each that is ours now, else its code."""
    return [code if isinstance(code, int) else waiting.Wait(*code) for code in reply]


class Claimed(IntEnum):
    """What became of an entry that was to be claimed, where no payload is returned."""

    NOT_OURS = 0  # acknowledged, or another's by now
    DONE = 1
    DELETED = 2  # it was ours, but its payload is gone from the stream: acknowledged
    GONE = 3  # it is pending nowhere and in the stream no more
    TAKEN = 4  # it is pending nowhere, though it was delivered and is in the stream
    ALL_TAKEN = 5  # the same, and the consumer itself is missing


class Pending(NamedTuple):
    """A row of the pending entries list.

    What it says of a mark holds for owners that are slots, or are named after one.
    """

    entry: bytes
    consumer: bytes
    idle_ms: int
    counter: int

    @property
    def rests(self) -> bool:
        """Tell whether nobody has it in hand."""
        return self.reading.mark is not Mark.HELD

    @property
    def is_suspect(self) -> bool:
        """Tell whether it was left by a host that was lost, and has been charged for that."""
        return self.reading.mark is Mark.SUSPECT

    @property
    def reading(self) -> marks.Reading:
        """Return its mark, and for how long nobody has touched it."""
        return marks.read(self._split[1], self.idle_ms)

    @property
    def slot(self) -> bytes:
        """Return the consumer of the slot that has it."""
        return self._split[0].encode("utf-8", "surrogateescape")

    @property
    def _split(self) -> tuple[str, Mark]:
        return marks.split(self.consumer.decode("utf-8", "surrogateescape"))


def pending_rows(reply: Any) -> list[Pending]:
    """Return the rows of an XPENDING reply, in the order of ids."""
    return [Pending(*row) for row in reply]


def merged(replies: Iterable[Any]) -> list[Pending]:
    """Return the rows of XPENDING replies about several owners, in the order of ids, each entry once."""
    found = {row.entry: row for reply in replies for row in pending_rows(reply)}
    return sorted(found.values(), key=lambda row: parse_id(row.entry))


def next_id(entry: tuple[int, int]) -> bytes:
    """Return the range start that excludes an id."""
    return b"(" + format_id(entry)


def info_rows(reply: Any) -> list[dict[bytes, Any]]:
    """Return the maps of an XINFO reply."""
    return [dict(zip(row[::2], row[1::2], strict=True)) for row in reply]
