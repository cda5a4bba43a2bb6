"""The wire: one connection, one write per batch, replies parsed by hiredis and nothing else.

redis-py makes the connection (URL, TLS, authentication) and owns it; from then on bytes go straight
to its socket. Replies come in the order of commands, so the caller keeps that order and no more.
Nothing is ever sent twice from here: whoever holds unconfirmed work decides what to repeat.
"""

from __future__ import annotations

import contextlib
import errno
import math
import mmap
import os
import select
import socket
import ssl
import struct
import time
from typing import Any

import hiredis

from .connection import Target, connect, sock
from .lookout import Lookout
from .trouble import elsewhere

_BUFFER = 1 << 18


class Lost(Exception):
    """The connection is gone or cannot be trusted any more."""


class WrongServer(Lost):
    """The server says that it is the wrong one, or cannot work now: it has executed nothing."""


class DescriptorsClosed(Exception):
    """Somebody else in this process closed our descriptors."""


class Wire:
    """A connected, authenticated socket to one server."""

    def __init__(
        self,
        target: Target,
        name: str,
        timeout_s: float,
        watch: tuple[int, ...] = (),
        lookout: Lookout | None = None,
    ) -> None:
        """Connect.

        Arguments:
            target: the server.
            name: the name of the connection in CLIENT LIST.
            timeout_s: longest wait for connecting and for the kernel to take a write.
            watch: descriptors that interrupt a wait for a reply when they become readable.
            lookout: who knows whether the server was replaced; None where it says so itself.

        Raises:
            redis.exceptions.RedisError: as redis-py raises them.
        """
        made: Any = connect(target, name=name, timeout_s=timeout_s, watch=lookout)
        self._connection, self._lookout = made, lookout
        self._address = (made.host, made.port) if lookout else ("", 0)
        self._socket = sock(self._connection)
        self._socket.settimeout(0)
        self.timeout_s = timeout_s
        self._reader = hiredis.Reader()
        # Not a bytearray: that writes zeros to all of it, and few replies need more than a part.
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        self._poll = select.poll()
        self._fd = self._socket.fileno()
        seen = os.fstat(self._fd)
        self._identity = (seen.st_dev, seen.st_ino)
        self._poll.register(self._fd, select.POLLIN)
        for fd in watch:
            self._poll.register(fd, select.POLLIN)
        self.received = 0  # bytes, ever
        self._heard = 0.0

    def send(self, data: bytes) -> None:
        """Write commands.

        Raises:
            WrongServer: it was replaced.
            Lost: the server is gone, or took nothing for the time-out.
        """
        if self._lookout is not None:
            self._look()
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                # Not select(): user code may have opened more files than it can count.
                only = select.poll()
                only.register(self._fd, select.POLLOUT)
                if not only.poll(self.timeout_s * 1000):
                    raise Lost(f"the server took no bytes for {self.timeout_s:g} s") from None
            except OSError as error:
                raise _lost(error) from error

    def receive(self, deadline: float, pause: float = math.inf) -> tuple[bool, Any]:
        """Wait for one reply.

        Arguments:
            deadline: monotonic seconds.
            pause: the same; when to return for a moment although nothing is wrong.

        Returns:
            (True, reply), where an error reply is a `hiredis.ReplyError`; or (False, None) when a
            watched descriptor became readable first, or it was time for the pause.

        Raises:
            WrongServer: it was replaced; nothing that it says counts.
            Lost: the connection broke, or nothing came before the deadline: it is deaf. While a reply
                is coming in, however slowly, it is not.
        """
        while True:
            try:
                reply = self._reader.gets()
            except hiredis.HiredisError as error:
                raise Lost(f"the server sent what is no reply: {error}") from error
            if self._lookout is not None:
                self._look()
            if reply is not False:
                return True, reply
            try:
                size = self._socket.recv_into(self._buffer)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                # A slow network takes long for a large reply; to break off would only ask for it again.
                arriving = self._heard + self.timeout_s if self._reader.has_data() else 0.0
                if time.monotonic() >= pause or not self._wait(max(deadline, arriving), pause):
                    return False, None
                continue
            except OSError as error:
                raise _lost(error) from error
            if not size:
                raise Lost("the server closed the connection")
            self.received += size
            self._heard = time.monotonic()
            self._reader.feed(self._buffer, 0, size)  # type: ignore[arg-type]  # any buffer will do

    def finish(self, deadline: float) -> None:
        """Say that no command will follow, and wait until the server has let go of us.

        A blocked read cannot be taken back; but once the server has closed its side, it will
        deliver nothing more to it, and the pending list says all that it did deliver.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while time.monotonic() < deadline:
                left_ms = max(0, int((deadline - time.monotonic()) * 1000))
                only = select.poll()
                only.register(self._fd, select.POLLIN)
                if not only.poll(left_ms) or not socket.socket.recv_into(self._socket, self._buffer):
                    break
        except (OSError, ValueError):
            pass
        self.abandon()

    def abandon(self) -> None:
        """Close the connection, and let nothing that was written reach the server any more.

        On a network that comes back, the kernel would deliver a read to a server that does not know
        yet that nobody listens: entries would go to this consumer, and nobody would look for them.
        """
        with contextlib.suppress(OSError):  # a closed one; and not every kind of socket has it
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.disconnect()

    def _look(self) -> None:
        assert self._lookout is not None
        if not self._lookout.still(self._address):
            raise WrongServer(
                "this server is the primary no more, by the sentinels' word: what it confirms now is lost"
            )

    def check(self) -> None:
        """Make sure that the socket's descriptor is still the socket's.

        Raises:
            DescriptorsClosed: it is closed, or its number has been given to another file.
        """
        try:
            seen = os.fstat(self._fd)
        except OSError:
            raise DescriptorsClosed from None
        if (seen.st_dev, seen.st_ino) != self._identity:
            raise DescriptorsClosed

    def _wait(self, deadline: float, pause: float) -> bool:
        """Wait until the socket is readable or time is up; False when a watched descriptor is readable."""
        now = time.monotonic()
        if now >= deadline:
            raise Lost("no reply in time: the server is frozen or overloaded, or the network drops packets")
        until = min(deadline, pause) if self._lookout is None else min(deadline, pause, self._lookout.due)
        ready = self._poll.poll(max(0.0, until - now) * 1000)
        for fd, event in ready:
            if event & select.POLLNVAL:
                raise DescriptorsClosed
            if fd == self._fd:
                return True
        return not ready


def heed(reply: Any) -> None:
    """Raise if a reply, or a part of it, says that the connection leads to the wrong server.

    Arguments:
        reply: as `Wire.receive` returns it; or what a script has written down of an error that it met.

    Raises:
        WrongServer: drop the connection, pause, and find the right server.
    """
    if isinstance(reply, list):
        for part in reply:
            if isinstance(part, hiredis.ReplyError) and elsewhere(part):
                raise WrongServer(str(part))
    elif isinstance(reply, (hiredis.ReplyError, str)) and elsewhere(reply):
        raise WrongServer(str(reply))


def _lost(error: OSError) -> Exception:
    if error.errno == errno.EBADF:
        return DescriptorsClosed()
    return Lost(f"{type(error).__name__}: {error}")
