"""The segment: one file of shared memory that a pool's processes write side by side.

    +--------------+---------------+---------------+----
    | header, 4096 | slot 0        | slot 1        | ...
    +--------------+---------------+---------------+----

It lies on tmpfs and outlives every process, so a new master finds what the workers of a dead one
were doing. A page is only handed out once the file system has promised the memory for it: a full
tmpfs is an error when a slot is opened, never a SIGBUS in the middle of a message.

Ownership is by lock, never by pid, and the kernel gives a lock back at death.
- Byte n of the file belongs to the process in slot n, byte `LANE` to the one that runs a suspect
  which must have the pool for itself. A POSIX record lock, because a child that a
  handler forks must not inherit it. The contract is strained in one place: it is also gone when the
  process closes any descriptor of this file, so nothing here closes one.
- The companion file `.lock` belongs to the master. An flock, because it must survive the master's
  execve on a reload; its children close their copy.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import re
import stat
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from . import aside
from .cells import CELL, D, Keep, P, Pool, S
from .slot import SLOT_SIZE, TOUCHED, Slot

log = logging.getLogger(__name__)

MAGIC = b"RSQ-SEG\x00"
VERSION = 5
HEADER_SIZE = 4096
CAPACITY = 64  # slots a new segment has room for; pages cost nothing until a slot is opened
NAME_MAX = 512  # bytes of a stream's, group's or instance's name

# The header's fixed part: magic, version, slot size, capacity; then three names, then cells.
_FIXED = struct.Struct("<8sQQQ")
_NAME = struct.Struct(f"<H{NAME_MAX}s")
_NAMES_AT = _FIXED.size
_CELLS_AT = (_NAMES_AT + 3 * _NAME.size + 7) & ~7
_KEEP_AT = _CELLS_AT + CELL * Pool.SIZE
assert _KEEP_AT + CELL * Keep.SIZE <= HEADER_SIZE
LANE = 1 << 20  # a byte beyond every slot: see `Segment.lock_slot`

if sys.platform == "darwin":
    _FLOCK = struct.Struct("@qqihh")
else:
    _FLOCK = struct.Struct("@hhqqi4x")


class SegmentError(Exception):
    """The segment cannot be made or read; the text is for the person on call."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a segment belongs to."""

    stream: str
    group: str
    instance: str

    @property
    def filename(self) -> str:
        """Return a file name: readable, and distinct for distinct identities."""
        whole = f"{self.stream}\0{self.group}\0{self.instance}".encode("utf-8", "surrogateescape")
        words = re.sub(r"[^A-Za-z0-9._-]+", "_", f"{self.stream}.{self.group}.{self.instance}")[:80]
        return f"{words}-{zlib.crc32(whole):08x}.seg"


class Segment:
    """An open segment: its header's cells, its slots, its locks."""

    def __init__(self, path: Path, fd: int, *, writable: bool) -> None:
        """Map an already prepared file. Use `create` or `attach`."""
        self.path = path
        self.fd = fd
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(fd, os.fstat(fd).st_size, access=access)
        self._view = memoryview(self._map)
        _, _, _, capacity = _FIXED.unpack_from(self._view, 0)
        # A master may be making room for more slots while a reader maps the file.
        self.capacity = min(capacity, (len(self._view) - HEADER_SIZE) // SLOT_SIZE)
        self.identity = Identity(*(self._name(at) for at in range(3)))
        self.pool = Pool(self._view[_CELLS_AT:_KEEP_AT])
        self.keep = Keep(self._view[_KEEP_AT : _KEEP_AT + CELL * Keep.SIZE])

    @classmethod
    def create(cls, directory: Path, identity: Identity, slots: int) -> Segment:
        """Open the segment of a pool for writing, making it when there is none that fits.

        Arguments:
            directory: the runtime directory; must exist and be writable.
            identity: stream, group and instance; each at most `NAME_MAX` bytes.
            slots: how many slots the pool starts with; room is made for more.

        Raises:
            SegmentError: the file cannot be made or there is no room for it.
        """
        path = directory / identity.filename
        _check_names(identity)
        fd = -1
        try:
            if not _is_file_or_nothing(path):  # a FIFO, a folder: somebody's mistake
                path.replace(aside.place(path, "stale"))
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
            if not _fits(fd, identity):
                if os.fstat(fd).st_size:  # of another version, or torn: keep it for a post-mortem, start anew
                    path.replace(aside.place(path, "stale"))
                    os.close(fd)
                    fd = -1
                    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                _format(fd, identity)
            capacity = max(CAPACITY, slots, _FIXED.unpack(os.pread(fd, _FIXED.size, 0))[3])
            os.ftruncate(fd, HEADER_SIZE + capacity * SLOT_SIZE)
            os.pwrite(fd, _FIXED.pack(MAGIC, VERSION, SLOT_SIZE, capacity), 0)
            return cls(path, fd, writable=True)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            raise SegmentError(
                f"cannot make {path}: {error.strerror or error}; choose another --runtime-dir"
            ) from error

    @classmethod
    def attach(cls, path: Path, *, writable: bool = False) -> Segment:
        """Open an existing segment, for reading only unless asked.

        Raises:
            SegmentError: it is no segment, or one of another version.
        """
        try:
            flags = os.O_RDWR if writable else os.O_RDONLY
            fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO would be waited for
        except OSError as error:
            raise SegmentError(f"cannot read {path}: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode) or not _fits(fd, None):
            os.close(fd)
            raise SegmentError(f"{path} is no segment of this version of rsq")
        return cls(path, fd, writable=writable)

    def close(self) -> None:
        """Unmap and close; also lets go of every lock this process holds on the file."""
        self.pool.release()
        self.keep.release()
        self._view.release()
        with contextlib.suppress(BufferError):  # a caller may still look at a slot
            self._map.close()
        os.close(self.fd)

    def open_slot(self, slot: int) -> None:
        """Make the file system promise the memory of one slot.

        Raises:
            SegmentError: there is no room, in the segment or on the file system.
        """
        if slot >= self.capacity:
            raise SegmentError(f"slot {slot} is beyond the {self.capacity} that {self.path} has room for")
        if not hasattr(os, "posix_fallocate"):
            return
        try:
            os.posix_fallocate(self.fd, HEADER_SIZE + slot * SLOT_SIZE, SLOT_SIZE)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # a file system that cannot promise
                return
            raise SegmentError(
                f"no room for slot {slot} in {self.path} ({SLOT_SIZE >> 10} KiB): {error.strerror};"
                " free space there or choose another --runtime-dir"
            ) from error

    def shed(self) -> None:
        """Give the memory of slots behind the last that was ever used back to the file system.

        Only with the pool's lock in hand, and before anybody sits in them.
        """
        used = [slot for slot in range(self.capacity) if self.used(slot)]
        size = os.fstat(self.fd).st_size
        with contextlib.suppress(OSError):
            os.ftruncate(self.fd, HEADER_SIZE + (used[-1] + 1 if used else 0) * SLOT_SIZE)
            os.ftruncate(self.fd, size)

    def set_aside(self, slot: int, why: str) -> str:
        """Clear a slot whose memory makes no sense; return where its old content is kept.

        Only with the slot's lock in hand, or the pool's and nobody in the slot. The master's cells about the
        process that is in it now stay. What the slot held is found in Redis by whoever recovers it.

        Arguments:
            slot: its number.
            why: for the log.
        """
        self.open_slot(slot)
        start = HEADER_SIZE + slot * SLOT_SIZE
        kept = aside.save(self.path, f"garbled-{slot}", bytes(self._view[start : start + SLOT_SIZE]))
        seat, desk = self.slot(slot).seat, self.slot(slot).desk
        present = {cell: seat.view[cell] for cell in (S.PID, S.SPAWNED, S.STATE, S.NEXT_SPAWN)}
        count = desk.view[D.SET_ASIDE]
        self._view[start : start + SLOT_SIZE] = bytes(SLOT_SIZE)
        for cell, value in present.items():
            seat.view[cell] = value
        desk.view[D.SET_ASIDE] = 1 + (count if count < 1 << 32 else 0)
        log.error(
            "slot %d: its shared memory makes no sense (%s): begun anew, the old content is kept in %s;"
            " what the slot held is recovered from Redis, charged one attempt and run alone", slot, why, kept,
        )  # fmt: skip
        return kept

    @property
    def wanted(self) -> int:
        """Return how many slots the master wants, as far as there is room for them."""
        wanted: int = self.pool.view[P.WORKERS]
        return int(min(wanted, self.capacity))

    def slot(self, slot: int) -> Slot:
        """Return one slot's parts. Only of a slot that is open: see `used`."""
        start = HEADER_SIZE + slot * SLOT_SIZE
        return Slot(self._view[start : start + SLOT_SIZE])

    def used(self, slot: int) -> bool:
        """Tell whether a slot was ever opened and written to.

        Asked through the file, because even a look at an unopened slot's memory needs a page of the
        file system: on a full one the reader would die of it.
        """
        if slot >= self.capacity:
            return False
        return os.pread(self.fd, TOUCHED, HEADER_SIZE + slot * SLOT_SIZE).strip(b"\0") != b""

    def lock_pool(self) -> int | None:
        """Become this pool's master. Return the lock's descriptor, None while another has it.

        The descriptor must stay open for as long as the lock is wanted, and closed in every child.
        """
        path = self.path.with_suffix(".lock")
        try:
            if not _is_file_or_nothing(path):
                path.replace(aside.place(self.path, "stale"))
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise SegmentError(f"cannot open {path}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def lock_slot(self, slot: int) -> int | None:
        """Take a slot's lock for this process. Return None when taken, else the pid of its holder."""
        while True:
            try:
                fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, slot)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
                holder = self.slot_holder(slot)
                if holder is not None:
                    return holder  # else: it died between the two calls
            else:
                return None

    def unlock_slot(self, slot: int) -> None:
        """Give a slot's lock back."""
        fcntl.lockf(self.fd, fcntl.LOCK_UN, 1, slot)

    def slot_holder(self, slot: int) -> int | None:
        """Return the pid of another process that sits in the slot, None when there is none."""
        if sys.platform == "darwin":
            asked = _FLOCK.pack(slot, 1, 0, fcntl.F_WRLCK, os.SEEK_SET)
            _, _, pid, kind, _ = _FLOCK.unpack(fcntl.fcntl(self.fd, fcntl.F_GETLK, asked))
        else:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, slot, 1, 0)
            kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(self.fd, fcntl.F_GETLK, asked))
        return None if kind == fcntl.F_UNLCK else int(pid)

    def _name(self, index: int) -> str:
        size, raw = _NAME.unpack_from(self._view, _NAMES_AT + index * _NAME.size)
        return bytes(raw[:size]).decode("utf-8", "surrogateescape")


def _is_file_or_nothing(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return True


def _check_names(identity: Identity) -> None:
    for name in (identity.stream, identity.group, identity.instance):
        size = len(name.encode("utf-8", "surrogateescape"))
        if size > NAME_MAX:
            raise SegmentError(f"a name of {size} bytes is too long, {NAME_MAX} are allowed: {name[:60]}...")


def _format(fd: int, identity: Identity) -> None:
    """Write an empty segment's header."""
    header = bytearray(HEADER_SIZE)
    _FIXED.pack_into(header, 0, MAGIC, VERSION, SLOT_SIZE, 0)
    for index, name in enumerate((identity.stream, identity.group, identity.instance)):
        raw = name.encode("utf-8", "surrogateescape")
        _NAME.pack_into(header, _NAMES_AT + index * _NAME.size, len(raw), raw)
    if os.pwrite(fd, header, 0) < HEADER_SIZE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _fits(fd: int, identity: Identity | None) -> bool:
    """Tell whether a file is a whole segment of this version and of this identity."""
    head = os.pread(fd, HEADER_SIZE, 0)
    if len(head) < HEADER_SIZE:
        return False
    magic, version, slot_size, capacity = _FIXED.unpack_from(head, 0)
    if (magic, version, slot_size) != (MAGIC, VERSION, SLOT_SIZE):
        return False
    if os.fstat(fd).st_size < HEADER_SIZE + capacity * slot_size:
        return False
    if identity is None:
        return True
    names = []
    for index in range(3):
        size, raw = _NAME.unpack_from(head, _NAMES_AT + index * _NAME.size)
        names.append(raw[:size].decode("utf-8", "surrogateescape"))
    return names == [identity.stream, identity.group, identity.instance]
