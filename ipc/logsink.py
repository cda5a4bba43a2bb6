"""Writing the log: lines go to standard error or a file, and no process waits for whoever reads them.

A terminal on which somebody pressed Ctrl-S, a pipe of a log driver that hangs, a FIFO without a reader, a
full disk: all of them would stop a process that simply writes. Here a line that cannot be written at once
is kept in a buffer; when that is full, lines are dropped and counted, and a line says so as soon as the log
flows again. In the normal case each line is written at once, before the call returns.

No thread writes: the master forks, and a fork copies the locks of a thread and not the thread. And
O_NONBLOCK is never set on an inherited descriptor: it would hold for the shell and for everybody else who has
that terminal or pipe. What can block is opened a second time instead, or is asked for room before each write.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import select
import socket
import stat
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

ROOM = 1 << 18  # bytes that may wait in one process
LAST_WORDS_S = 0.5  # at the end of a process
_GRACE_S = 0.1  # once in each stall: who only reads slowly loses nothing
_PIPE_BUF = getattr(select, "PIPE_BUF", 512)  # what poll promises that a pipe has room for
_STDERR = 2


class LogSink:
    """Takes lines and writes them in order, or counts them as lost."""

    def __init__(self, path: str | None = None) -> None:
        """Open what is written to.

        Arguments:
            path: a file, made 0600 when it is missing, and opened again when it was moved away;
                None for standard error.

        Raises:
            OSError: the file cannot be opened. A FIFO without a reader can.
        """
        self.note: Callable[[int], bytes] = lambda lost: b"%d lines of this log were dropped\n" % lost
        self._path = path
        self._fd, self._identity = -1, (0, 0)
        self._socket: socket.socket | None = None
        self._asks = False  # whether room has to be asked for before a write
        self._waiting: deque[bytes] = deque()
        self._size = self._lost = self._uncounted = 0
        self._stalled = False
        self._cells: tuple[memoryview, int] | None = None
        self._pid = os.getpid()
        self._open()

    @property
    def is_waiting(self) -> bool:
        """Tell whether lines wait to be written, as when this was last tried."""
        return bool(self._waiting or self._lost) and os.getpid() == self._pid

    def count_in(self, cells: memoryview, index: int) -> None:
        """Add the number of dropped lines to a cell that this process alone writes, past ones too."""
        self._be_this_process()
        self._cells = (cells, index)
        self._count(0)

    def write(self, line: bytes) -> None:
        """Write a line, or keep it for later, or drop it; does not wait.

        Arguments:
            line: with its line break.
        """
        self._be_this_process()
        room = ROOM // 2 if self._lost else ROOM  # else every second line would be lost, and told
        if self._waiting and self._size + len(line) > room:
            self._lost += 1
            self._count(1)
        else:
            if self._lost and self._waiting:
                self._tell_lost()
            self._keep(line)
        self.flush()

    def flush(self, limit_s: float = 0.0) -> bool:
        """Write what waits; tell whether nothing waits any more.

        Arguments:
            limit_s: how long to wait for whoever reads, seconds.
        """
        self._be_this_process()
        deadline = time.monotonic() + limit_s
        while self._waiting or self._lost:
            if not self._waiting:
                self._tell_lost()
            line = self._waiting[0]
            try:
                written = self._put(line)
            except BlockingIOError:
                if not self._await_room(deadline):
                    return False
            except OSError:  # a full disk, a reader that has gone
                return False
            else:
                self._stalled = False
                self._size -= written
                if written == len(line):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = line[written:]
        return True

    def reopen(self) -> None:
        """Open the file again if its name belongs to another one by now, or to none."""
        if self._path is None:
            return
        with contextlib.suppress(OSError):  # then the old one stays
            found = Path(self._path).stat()
            if (found.st_dev, found.st_ino) == self._identity:
                return
        with contextlib.suppress(OSError):
            self._open()

    def close(self) -> None:
        """Close the descriptor."""
        if self._socket is not None:
            self._socket.detach()
        if self._fd >= 0 and self._is_ours():
            os.close(self._fd)
        self._fd = -1

    def _be_this_process(self) -> None:
        """Forget, in a fork, what its parent will write and count itself."""
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            self._waiting.clear()
            self._size = self._lost = self._uncounted = 0
            self._stalled, self._cells = False, None

    def _keep(self, line: bytes) -> None:
        self._waiting.append(line)
        self._size += len(line)

    def _tell_lost(self) -> None:
        lost, self._lost = self._lost, 0
        self._keep(self.note(lost))

    def _count(self, lines: int) -> None:
        self._uncounted += lines
        if self._cells is not None:
            cells, index = self._cells
            cells[index] = (cells[index] + self._uncounted) & ((1 << 64) - 1)
            self._uncounted = 0

    def _await_room(self, deadline: float) -> bool:
        """Wait a little for a reader that is only slow, once in each stall; tell whether there is room."""
        left_s = max(0.0, deadline - time.monotonic())
        if not self._stalled:
            left_s, self._stalled = max(left_s, _GRACE_S), True
        return left_s > 0 and self._has_room(left_s)

    def _has_room(self, limit_s: float) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(limit_s * 1000))

    def _put(self, data: bytes) -> int:
        """Write a part of it; return how much.

        Raises:
            BlockingIOError: there is no room now.
            OSError: it cannot be written.
        """
        self.reopen()
        if not self._is_ours():  # user code has closed it, and the number may be another file's
            self._open_again()
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._asks:
            if not self._has_room(0):
                raise BlockingIOError
            data = data[:_PIPE_BUF]
        return os.write(self._fd, data)

    def _is_ours(self, fd: int | None = None) -> bool:
        try:
            found = os.fstat(self._fd if fd is None else fd)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def _open_again(self) -> None:
        """Open what was closed behind our back, if it can still be reached."""
        self._fd = -1  # not ours to close
        if self._path is None and not self._is_ours(_STDERR):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._open()

    def _open(self) -> None:
        fd = _open_stderr() if self._path is None else _open_file(self._path)
        found = os.fstat(fd)
        old, self._fd, self._identity = self._fd, fd, (found.st_dev, found.st_ino)
        is_socket = stat.S_ISSOCK(found.st_mode)
        if self._socket is not None:
            self._socket.detach()
        self._socket = socket.socket(fileno=fd) if is_socket else None
        waits = stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode)
        self._asks = waits and os.get_blocking(fd)
        if old >= 0:
            os.close(old)


def _open_stderr() -> int:
    """Return a descriptor of our own for standard error: user code may close or replace that."""
    try:
        mode = os.fstat(_STDERR).st_mode
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    if sys.platform == "linux" and (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with contextlib.suppress(OSError):  # it belongs to another user, or nobody reads it
            return os.open(f"/proc/self/fd/{_STDERR}", flags)
    return fcntl.fcntl(_STDERR, fcntl.F_DUPFD_CLOEXEC, 3)


def _open_file(path: str) -> int:
    flags = os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with contextlib.suppress(OSError):  # it is not there yet, or may not be read
        if stat.S_ISFIFO(Path(path).stat().st_mode):
            # Open for reading too: else it cannot be opened before somebody reads it.
            return os.open(path, flags | os.O_RDWR, 0o600)
    return os.open(path, flags | os.O_WRONLY, 0o600)


class SinkHandler(logging.Handler):
    """A handler of `logging` in front of a sink."""

    def __init__(self, sink: LogSink, encoding: str = "utf-8") -> None:
        """Write into an open sink; what the encoding does not have appears as escapes."""
        super().__init__()
        self.sink, self._encoding = sink, encoding
        sink.note = self._note

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            line = self._line(record)
        except Exception:
            self.handleError(record)
        else:
            self.sink.write(line)

    def settle(self, limit_s: float = 0.0) -> bool:
        """Write what waits; tell whether nothing waits any more. See `LogSink.flush`."""
        self.acquire()
        try:
            return self.sink.flush(limit_s)
        finally:
            self.release()

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode(self._encoding, "backslashreplace")

    def _note(self, lost: int) -> bytes:
        words = "%d lines of this log were dropped: nobody read it, or it could not be written"
        record = logging.LogRecord("rsq.log", logging.WARNING, __file__, 0, words, (lost,), None)
        return self._line(record)


_installed: list[SinkHandler] = []


def install(handler: SinkHandler) -> None:
    """Make it the one of this process, which the functions below are about."""
    _installed[:] = [handler]


def settle(limit_s: float = 0.0) -> bool:
    """Write what waits, if anything does; tell whether nothing waits any more.

    Arguments:
        limit_s: how long to wait for whoever reads, seconds.
    """
    return all(not handler.sink.is_waiting or handler.settle(limit_s) for handler in _installed)


def count_in(cells: memoryview, index: int) -> None:
    """Add the number of lines that this process drops to a cell that it alone writes."""
    for handler in _installed:
        handler.sink.count_in(cells, index)


def reopen() -> None:
    """Open the log file again under its name."""
    for handler in _installed:
        handler.sink.reopen()
