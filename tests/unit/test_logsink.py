"""A log that is not read, or cannot be written, makes nobody wait, and says afterwards what is missing."""

from __future__ import annotations

import logging
import os
import pty
import select
import socket
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsq.ipc.logsink import ROOM, LogSink, SinkHandler

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def fifo(tmp_path: Path) -> str:
    """A FIFO that nobody reads yet."""
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    return path


@pytest.fixture
def stderr() -> Iterator[None]:
    """Standard error as it was, afterwards."""
    kept = os.dup(2)
    yield
    os.dup2(kept, 2)
    os.close(kept)


def _read_all(fd: int) -> bytes:
    found = b""
    while select.select([fd], [], [], 0)[0]:
        data = os.read(fd, 1 << 16)
        if not data:
            break
        found += data
    return found


def _numbered(sink: LogSink, count: int) -> list[bytes]:
    lines = [b"%06d %s" % (number, LINE) for number in range(count)]
    for line in lines:
        sink.write(line)
    return lines


def _read_until_settled(sink: LogSink, fd: int) -> bytes:
    found = b""
    while sink.is_waiting:
        found += _read_all(fd)
        sink.flush()
    return found + _read_all(fd)


def test_a_file_has_each_line_at_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = LogSink(str(path))
    for number in range(3):
        sink.write(b"%d\n" % number)
        assert path.read_bytes().endswith(b"%d\n" % number)
    assert path.stat().st_mode & 0o777 == 0o600
    path.rename(tmp_path / "older")
    sink.write(b"new\n")
    assert path.read_bytes() == b"new\n"
    sink.close()


def test_a_fifo_without_a_reader(fifo: str) -> None:
    """Opened, written to, and nothing is lost while the buffer has room: whoever reads gets all in order."""
    sink = LogSink(fifo)
    lines = _numbered(sink, (ROOM // 2) // len(LINE))
    assert sink.is_waiting
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    assert _read_until_settled(sink, reader) == b"".join(lines)
    os.close(reader)
    sink.close()


def test_what_is_dropped_is_counted_and_told(fifo: str) -> None:
    """Lines stay whole and in order, and the gap is told where it is."""
    sink = LogSink(fifo)
    cells = memoryview(bytearray(16)).cast("Q")
    sink.count_in(cells, 1)
    lines = _numbered(sink, 3 * ROOM // len(LINE))
    assert cells[1] > 0
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    found = _read_until_settled(sink, reader).splitlines(keepends=True)
    assert found[-1] == b"%d lines of this log were dropped\n" % cells[1]
    assert found[:-1] == lines[: len(found) - 1]
    assert len(found) - 1 + cells[1] == len(lines)
    sink.write(b"after\n")
    assert _read_all(reader) == b"after\n"
    os.close(reader)
    sink.close()


def test_a_pipe_as_standard_error(stderr: None) -> None:
    """It is not made non-blocking for all who share it, and lines go on when the reader does."""
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    sink = LogSink()
    lines = _numbered(sink, 1500)  # more than a pipe holds
    assert sink.is_waiting
    assert os.get_blocking(2)
    assert os.get_blocking(writer)
    assert _read_until_settled(sink, reader) == b"".join(lines)
    for fd in (reader, writer):
        os.close(fd)
    sink.close()


def test_a_pipe_that_cannot_be_opened_again(stderr: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to another user, as in some containers: it is asked for room instead."""
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    monkeypatch.setattr(sys, "platform", "another")
    sink = LogSink()
    lines = _numbered(sink, 1500)
    assert sink.is_waiting
    assert _read_until_settled(sink, reader) == b"".join(lines)
    for fd in (reader, writer):
        os.close(fd)
    sink.close()


def test_a_socket_as_standard_error(stderr: None) -> None:
    """As a service manager gives it."""
    ours, theirs = socket.socketpair()
    os.dup2(theirs.fileno(), 2)
    sink = LogSink()
    lines = _numbered(sink, ROOM // len(LINE))
    assert sink.is_waiting
    assert os.get_blocking(2)
    assert _read_until_settled(sink, ours.fileno()) == b"".join(lines)
    sink.close()
    ours.close()
    theirs.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a terminal has no second description")
def test_a_stopped_terminal(stderr: None) -> None:
    """Somebody has pressed Ctrl-S."""
    master, slave = pty.openpty()
    os.dup2(slave, 2)
    termios.tcflow(slave, termios.TCOOFF)
    sink = LogSink()
    sink.write(b"words\n")
    assert sink.is_waiting
    termios.tcflow(slave, termios.TCOON)
    assert sink.flush(10)
    assert os.read(master, 100) == b"words\r\n"
    for fd in (master, slave):
        os.close(fd)
    sink.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk() -> None:
    sink = LogSink("/dev/full")
    cells = memoryview(bytearray(8)).cast("Q")
    sink.count_in(cells, 0)
    lines = _numbered(sink, 3 * ROOM // len(LINE))
    assert len(lines) > cells[0] > len(lines) // 3
    assert not sink.flush(0.01)
    sink.close()


def test_a_reader_that_has_gone(stderr: None) -> None:
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    sink = LogSink()
    os.close(reader)
    sink.write(LINE)
    assert not sink.flush(0.01)
    os.close(writer)
    sink.close()


def test_a_descriptor_that_user_code_has_closed(tmp_path: Path) -> None:
    """What is opened at its number is left alone, and the log goes on."""
    sink = LogSink(str(tmp_path / "log"))
    fd = sink._fd
    os.close(fd)
    other = os.open(tmp_path / "another", os.O_WRONLY | os.O_CREAT)
    assert other == fd
    sink.write(LINE)
    assert (tmp_path / "another").read_bytes() == b""
    assert (tmp_path / "log").read_bytes() == LINE
    sink.close()
    os.close(other)


def test_both_descriptors_of_standard_error_are_closed(stderr: None, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(fd, 2)
    os.close(fd)
    sink = LogSink()
    os.close(sink._fd)
    sink.write(LINE)
    assert (tmp_path / "log").read_bytes() == LINE
    os.close(sink._fd)
    os.close(2)
    others = [os.open(tmp_path / f"{number}", os.O_WRONLY | os.O_CREAT) for number in range(2)]
    sink.write(LINE)
    assert [(tmp_path / f"{number}").read_bytes() for number in range(2)] == [b"", b""]
    assert sink.is_waiting
    for other in others:
        os.close(other)


def test_a_fork_does_not_write_what_its_parent_will(fifo: str) -> None:
    sink = LogSink(fifo)
    lines = _numbered(sink, 1500)
    assert sink.is_waiting
    pid = os.fork()
    if not pid:
        os._exit(1 if sink.is_waiting else 0)
    assert os.waitpid(pid, 0)[1] == 0
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    assert _read_until_settled(sink, reader) == b"".join(lines)
    os.close(reader)
    sink.close()


def test_the_handler_tells_in_its_own_format(fifo: str) -> None:
    sink = LogSink(fifo)
    handler = SinkHandler(sink, "ascii")
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    record = logging.makeLogRecord({"msg": "gr\u00f6\u00dfe %s" % ("x" * 2000), "levelname": "INFO"})
    for _ in range(ROOM // 1000):
        handler.emit(record)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    found = _read_until_settled(sink, reader).splitlines()
    assert found[0].startswith(b"INFO: gr\\xf6\\xdfe x")
    assert found[-1].startswith(b"WARNING: ")
    assert found[-1].endswith(b"lines of this log were dropped: nobody read it, or it could not be written")
    os.close(reader)
    sink.close()
