"""The once keys: what entries of the newest batch are known by, so that the keeper can leave their marks.

    | used: 8 | batch: 8 | size: 8 | records |    record: place 2 | size of key 2 | spare 4 | ttl, ms 8 | key

A mark is left by the script that acknowledges. While an entry takes long the keeper acknowledges what its
slot has finished before it, and has to leave the same marks. `batch` is zero while records are written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from .cells import CELL

_ROOM = 56 << 10  # bytes of records; a thousand ordinary keys
_RECORD = struct.Struct("<HHxxxxQ")
_NO_ROOM = 0xFFFF
_HEAD = 3 * CELL
_USED, _BATCH, _SIZE = range(3)


class OnceKeys:
    """The keys of one slot. The worker writes, the keeper reads."""

    SIZE = _HEAD + _ROOM

    def __init__(self, raw: memoryview) -> None:
        self._head = raw[:_HEAD].cast("Q")
        self._records = raw[_HEAD:]

    @property
    def used(self) -> bool:
        """Tell whether entries of this slot leave marks."""
        return bool(self._head[_USED])

    def use(self, *, used: bool) -> None:
        """Say whether entries of this slot leave marks."""
        self._head[_BATCH], self._head[_USED] = 0, int(used)

    def write(self, batch: int, rows: Iterable[tuple[int, bytes, int]]) -> None:
        """Write down the keys of a batch that is about to be opened.

        Arguments:
            batch: its number.
            rows: place in the batch, key and time to live in ms of each entry that will leave a mark.
        """
        rows = list(rows)
        room = _ROOM - _RECORD.size * len(rows)
        parts: list[bytes] = []
        for place, key, ttl_ms in rows:
            fits = len(key) <= room
            parts.append(_RECORD.pack(place, len(key) if fits else _NO_ROOM, ttl_ms))
            if fits:
                parts.append(key)
                room -= len(key)
        text = b"".join(parts)
        self._head[_BATCH] = 0
        self._records[: len(text)] = text
        self._head[_SIZE] = len(text)
        self._head[_BATCH] = batch

    def read(self, batch: int) -> dict[int, tuple[bytes, int] | None] | None:
        """Return place -> (key, time to live in ms) of a batch; None for a key that found no room.

        None for the whole when the records are of another batch.
        """
        if self._head[_BATCH] != batch:
            return None
        text = bytes(self._records[: min(self._head[_SIZE], _ROOM)])
        if self._head[_BATCH] != batch:
            return None
        found: dict[int, tuple[bytes, int] | None] = {}
        at = 0
        while at + _RECORD.size <= len(text):
            place, size, ttl_ms = _RECORD.unpack_from(text, at)
            at += _RECORD.size
            if size == _NO_ROOM:
                found[place] = None
                continue
            found[place] = text[at : at + size], ttl_ms
            at += size
        return found
