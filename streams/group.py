"""The consumer group, as one consumer speaks to it: commands packed, replies taken apart.

Pure: bytes out, parsed replies in. What a command guarantees is said here, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import hiredis

from .entry import Raw, format_id

_LAST = "+"
HANDED_BACK_IDLE_MS = 2**40  # longer idle than any threshold: may be taken at once


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
        # Ids of one length, the usual case, need no packing one by one.
        size = len(ids[0])
        count = b"*%d" % (3 + len(ids))
        if all(len(entry) == size for entry in ids):
            head = b"\r\n$%d\r\n" % size
            return count + self._ack_tail + head + head.join(ids) + b"\r\n"
        return (
            count
            + self._ack_tail
            + b"".join(b"\r\n$%d\r\n%s" % (len(entry), entry) for entry in ids)
            + b"\r\n"
        )

    def claim(self, ids: Iterable[bytes], counter: int) -> bytes:
        """XCLAIM to self with the delivery counter set, returning payloads."""
        return pack("XCLAIM", self.stream, self.group, self.consumer, 0, *ids, "RETRYCOUNT", counter)

    def set_counter(self, ids: Iterable[bytes], counter: int) -> bytes:
        """XCLAIM to self that only sets the delivery counter and the idle time to zero."""
        return pack(
            "XCLAIM", self.stream, self.group, self.consumer, 0, *ids, "RETRYCOUNT", counter, "JUSTID"
        )

    def hand_back(self, ids: Iterable[bytes], counter: int) -> bytes:
        """XCLAIM to self that makes entries look long abandoned, so that anybody may take them."""
        abandoned = ("IDLE", HANDED_BACK_IDLE_MS, "RETRYCOUNT", counter, "JUSTID")
        return pack("XCLAIM", self.stream, self.group, self.consumer, 0, *ids, *abandoned)

    def pending(self, first: bytes, last: bytes | None, count: int, consumer: str | None = None) -> bytes:
        """XPENDING of one consumer: ids from `first` ("(" excludes it) to `last`, with their counters."""
        end = _LAST if last is None else last
        return pack("XPENDING", self.stream, self.group, first, end, count, consumer or self.consumer)

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


def claimed(reply: Any) -> list[Raw]:
    """Return the entries of an XCLAIM reply; a server of 6.2 sends nil for those that were deleted."""
    return [entry for entry in reply if entry is not None and entry[1] is not None]


def counters(reply: Any) -> dict[bytes, int]:
    """Return id -> delivery counter of an XPENDING reply, in the order of ids."""
    return {row[0]: row[3] for row in reply}


def next_id(entry: tuple[int, int]) -> bytes:
    """Return the range start that excludes an id."""
    return b"(" + format_id(entry)


def info_rows(reply: Any) -> list[dict[bytes, Any]]:
    """Return the maps of an XINFO reply."""
    return [dict(zip(row[::2], row[1::2], strict=True)) for row in reply]
