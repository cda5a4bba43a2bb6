"""The pipe: what varies in size, from the worker to whoever reads the segment.

A ring of frames with one writer and one reader, and neither ever waits for the other:

    | head | tail | dropped | spare | ring ... |        frame: length (4 bytes), msgpack

`head` (the writer's) and `tail` (the reader's) count bytes for ever; their difference is what is
unread. A frame that does not fit is dropped and counted. The writer publishes `head` after the
bytes, so a writer killed in mid-frame has written nothing; a reader that finds nonsense all the
same skips to the head.
"""

from __future__ import annotations

from typing import Any

import msgpack

from .cells import CELL

PIPE_SIZE = 1 << 17
_HEAD, _TAIL, _DROPPED = range(3)
_RING_AT = 4 * CELL
_RING = PIPE_SIZE - _RING_AT
_LENGTH = 4
_WRAP = 2**64 - 1


class Pipe:
    """One slot's pipe, for its writer and its reader alike."""

    def __init__(self, raw: memoryview) -> None:
        self._cells = raw[:_RING_AT].cast("Q")
        self._ring = raw[_RING_AT:]

    @property
    def unread(self) -> bool:
        """Tell whether there is anything to take."""
        return self._cells[_HEAD] != self._cells[_TAIL]

    @property
    def ends(self) -> tuple[int, int]:
        """Return head and tail."""
        return self._cells[_HEAD], self._cells[_TAIL]

    @property
    def dropped(self) -> int:
        """Return how many frames did not fit, ever."""
        return self._cells[_DROPPED]

    def put(self, frame: dict[str, Any]) -> bool:
        """Write a frame; return False when there was no room and it was dropped."""
        body = msgpack.packb(frame, use_bin_type=True, unicode_errors="surrogatepass")
        head = self._cells[_HEAD]
        if _LENGTH + len(body) > _RING - (head - self._cells[_TAIL]):
            self._cells[_DROPPED] = (self._cells[_DROPPED] + 1) & _WRAP
            return False
        self._copy_in(head, len(body).to_bytes(_LENGTH, "little") + body)
        self._cells[_HEAD] = head + _LENGTH + len(body)
        return True

    def take(self, most: int = 1000) -> list[dict[str, Any]]:
        """Read and remove up to `most` frames, oldest first."""
        frames: list[dict[str, Any]] = []
        head, tail = self._cells[_HEAD], self._cells[_TAIL]
        if not 0 <= head - tail <= _RING:
            tail = head
        while tail < head and len(frames) < most:
            size = int.from_bytes(self._copy_out(tail, _LENGTH), "little")
            if size > _RING or tail + _LENGTH + size > head:
                tail = head  # not ours: written by a process that died, or by nobody
                break
            try:
                frame = msgpack.unpackb(self._copy_out(tail + _LENGTH, size), unicode_errors="surrogatepass")
            except (ValueError, msgpack.UnpackException):
                frame = None
            if isinstance(frame, dict):
                frames.append(frame)
            tail += _LENGTH + size
        self._cells[_TAIL] = tail
        return frames

    def _copy_in(self, at: int, data: bytes) -> None:
        start = at % _RING
        first = min(len(data), _RING - start)
        self._ring[start : start + first] = data[:first]
        self._ring[: len(data) - first] = data[first:]

    def _copy_out(self, at: int, size: int) -> bytes:
        start = at % _RING
        first = min(size, _RING - start)
        return bytes(self._ring[start : start + first]) + bytes(self._ring[: size - first])
