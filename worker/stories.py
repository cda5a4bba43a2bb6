"""The stories of dead letters that could not be written yet: reason, error and traceback.

A story is in the memory of the process whose handler failed. Until the letter is written it is also in a file
beside the segment, for the next process of this slot, and in Redis (`Group.keep_letter`), for whoever else
gets the entry. The file is one per slot; stories are appended to it, and it goes with the last one.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Collection
from pathlib import Path

import msgpack

from ..ipc.journal import Outcome
from ..streams.letter import ERROR_MAX, TRACEBACK_MAX
from .shelf import Letter

log = logging.getLogger(__name__)

_SPARE = 1 << 20  # bytes of the file that nobody needs before it is written anew
_SURROGATES = "surrogatepass"  # a file name in an error may be no text


class Stories:
    """What one slot keeps of dead letters that are not written yet."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not be there."""
        self._path = path
        self._kept: dict[bytes, bytes] | None = None
        self._size = 0

    def get(self, entry: bytes) -> bytes | None:
        """Return an entry's story, None when there is none."""
        return self._load().get(entry)

    def put(self, entry: bytes, story: bytes) -> None:
        """Keep a story; one that the file system refuses is lost with this process."""
        kept = self._load()
        if kept.get(entry) != story:
            kept[entry] = story
            self._append({entry: story})

    def drop(self, entry: bytes) -> None:
        """Forget a story: its letter is written, or for somebody else to write."""
        if self._kept is not None or self._path.exists():
            self.keep_only(self._load().keys() - {entry})

    def keep_only(self, entries: Collection[bytes]) -> None:
        """Forget the stories of all other entries."""
        kept = self._load()
        gone = kept.keys() - entries
        for entry in gone:
            del kept[entry]
        if gone and not kept:
            self._remove()
        elif gone and self._size > 2 * sum(map(len, kept.values())) + _SPARE:
            self._remove()
            self._append(kept)

    def _load(self) -> dict[bytes, bytes]:
        if self._kept is not None:
            return self._kept
        self._kept = {}
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO would be waited for
            with os.fdopen(fd, "rb") as file:
                data = file.read() or b""
        except OSError:
            return self._kept
        self._size = len(data)
        rows = msgpack.Unpacker(raw=True, max_buffer_size=0)
        rows.feed(data)
        with contextlib.suppress(Exception):  # its end may be torn, and anybody may have written there
            for row in rows:
                entry, story = row
                if isinstance(entry, bytes) and isinstance(story, bytes):
                    self._kept[entry] = story
        return self._kept

    def _append(self, rows: dict[bytes, bytes]) -> None:
        data = b"".join(msgpack.packb(row) for row in rows.items())
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(self._path, flags, 0o600)
            try:
                self._size += os.write(fd, data)
            finally:
                os.close(fd)
        except OSError as error:
            log.warning(
                "%s cannot be written: if this process ends first, dead letters that Redis refuses now come"
                " without their traceback: %s", self._path, error.strerror,
            )  # fmt: skip

    def _remove(self) -> None:
        self._size = 0
        with contextlib.suppress(OSError):
            self._path.unlink()


def pack(letter: Letter) -> bytes:
    """Return the story of a letter."""
    error, traceback = letter.error[:ERROR_MAX], letter.traceback
    if len(traceback) > TRACEBACK_MAX:
        half = TRACEBACK_MAX // 2
        traceback = f"{traceback[:half]}\n[...]\n{traceback[-half:]}"
    story = (letter.reason, error, traceback, letter.earlier, letter.event, letter.most)
    packed: bytes = msgpack.packb(story, unicode_errors=_SURROGATES)
    return packed


def unpack(entry: bytes, attempt: int, outcome: Outcome, story: bytes | None) -> Letter | None:
    """Return a letter that is to be written, None when its story cannot be read.

    Arguments:
        entry, attempt, outcome: what is known of it elsewhere.
        story: as it was packed; what it says is checked, for others may write where it was kept.
    """
    if story is None:
        return None
    try:
        reason, error, traceback, earlier, event, most = msgpack.unpackb(story, unicode_errors=_SURROGATES)
    except Exception:  # whatever somebody has written there
        return None
    texts = all(isinstance(text, str) for text in (reason, error, traceback))
    numbers = isinstance(earlier, int | None) and isinstance(most, int) and isinstance(event, bytes | None)
    if not texts or not numbers:
        return None
    return Letter(entry, attempt, outcome, reason, error, traceback, earlier, event, most, kept=True)
