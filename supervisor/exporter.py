"""The exporter: the child that shows a pool, or all pools of a root, to the outside.

It serves the segments over HTTP, and writes into the log what workers put into their pipes. It reads
memory only, so it can answer however busy or dead the workers are, and whatever Redis does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator

from ..ipc import logsink
from ..ipc.pipe import Pipe
from ..ipc.segment import Segment
from .frames import tell
from .gallery import Gallery

log = logging.getLogger("rsq.exporter")

DRAIN_EVERY_S = 0.5
_BACKLOG = 64
_RETRY_S = 0.05
_FRAMES_AT_ONCE = 100  # of each slot
_FRAMES_IN_HAND = 2  # what a stalled log may cost, should we die of it: a frame may fill half the buffer
_LAST_WORDS_S = 2.0


def bind(address: str) -> socket.socket:
    """Return a listening socket.

    Arguments:
        address: HOST:PORT, [IPv6]:PORT; port 0 takes any free one.

    Raises:
        ValueError: it is no address; one line.
        OSError: it cannot be had: taken, forbidden, not of this host, or its name is not known.
    """
    host, port = _parsed(address)
    family, kind, protocol, _, where = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _parsed(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or not host:
        colon = ""
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise ValueError(
            f"not an address: {address!r}; give HOST:PORT such as 127.0.0.1:9464, 0.0.0.0:9464 or [::1]:9464"
        )
    return host, int(port)


def run(gallery: Gallery, listener: socket.socket | None, lifeline_fd: int) -> int:
    """Serve until the master is gone or says so; the child's whole life.

    Arguments:
        gallery: the pools, their segments open for writing (reading a pipe moves its tail).
        listener: a listening socket; None to write the log only.
        lifeline_fd: its end means that the master, or the root, is gone.

    Returns:
        The exit code.
    """
    # Here, not above: a pool's start does not wait for a web server that the exporter alone needs.
    from .web import Server

    server = None if listener is None else Server(gallery, listener)
    pipes: dict[Segment, _Pipes] = {}
    with _terminated() as wake_fd:
        poll = select.poll()
        for fd in (wake_fd, lifeline_fd, *([server.fileno()] if server else [])):
            poll.register(fd, select.POLLIN)
        gallery.look()
        due = time.monotonic() + _drain(gallery, pipes)
        while True:
            now = time.monotonic()
            if now >= due:
                gallery.look()
                due = now + _drain(gallery, pipes)
            next_cut = server.expire(now) if server else None
            wait_s = (due if next_cut is None else min(due, next_cut)) - now
            ready = {fd for fd, _ in poll.poll(max(0.0, wait_s) * 1000)}
            if wake_fd in ready or (lifeline_fd in ready and not _heard(lifeline_fd)):
                break
            if server is not None and server.fileno() in ready:
                server.handle_request()
    deadline = time.monotonic() + _LAST_WORDS_S
    if server is not None:
        server.finish(deadline)
    while _drain(gallery, pipes) < DRAIN_EVERY_S and time.monotonic() < deadline:
        if not logsink.settle(logsink.LAST_WORDS_S):
            break
    logsink.settle(logsink.LAST_WORDS_S)
    return os.EX_OK


def _drain(gallery: Gallery, pipes: dict[Segment, _Pipes]) -> float:
    """Log what has come since; return after how many seconds to do so again.

    While nobody reads the log, reports stay where they are: there is more room in the segment than in here.
    """
    if not logsink.settle():
        return _RETRY_S
    more = False
    for name, segment in gallery.pools():
        if segment not in pipes:
            pipes[segment] = _Pipes(segment, name)
        more = pipes[segment].drain() or more
    return 0.0 if more else DRAIN_EVERY_S


class _Pipes:
    """All pipes of a pool."""

    def __init__(self, segment: Segment, name: str) -> None:
        self._segment, self._name = segment, name
        self._extra = {"pool": name} if name else {}
        self._pipes: dict[int, Pipe] = {}
        # What was dropped before our time has been told by our predecessor.
        self._dropped = {number: pipe.dropped for number, pipe in self._used()}

    def drain(self) -> bool:
        """Log what has come since, so much of it that pages need not wait; tell whether there is more."""
        more = False
        for number, pipe in self._used():
            left = _FRAMES_AT_ONCE
            while pipe.unread and left and logsink.settle():
                frames = pipe.take(_FRAMES_IN_HAND)
                for frame in frames:
                    tell(number, frame, self._name)
                left -= _FRAMES_IN_HAND
            more = more or pipe.unread
            dropped = pipe.dropped - self._dropped.get(number, 0)
            if dropped > 0:
                self._dropped[number] = pipe.dropped
                log.warning(
                    "slot %d: %d more failures than the pipe could hold are not in this log", number, dropped,
                    extra={**self._extra, "slot": number},
                )  # fmt: skip
        return more

    def _used(self) -> Iterator[tuple[int, Pipe]]:
        for number in range(self._segment.capacity):
            if number not in self._pipes:
                if not self._segment.used(number):
                    continue
                self._pipes[number] = self._segment.slot(number).pipe
            yield number, self._pipes[number]


def _heard(fd: int) -> bool:
    """Tell whether the other end still is; what it says means nothing to us."""
    try:
        return bool(os.read(fd, 4096))
    except BlockingIOError:
        return True


@contextlib.contextmanager
def _terminated() -> Iterator[int]:
    """Yield a descriptor that becomes readable when SIGTERM comes."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.signal(signal.SIGTERM, _writes_to(writer))
    try:
        yield reader
    finally:
        signal.signal(signal.SIGTERM, before)
        os.close(reader)
        os.close(writer)


def _writes_to(fd: int) -> Callable[..., None]:
    def handler(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(fd, b".")

    return handler
