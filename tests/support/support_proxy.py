"""A TCP proxy that is a bad network: between a pool and its server, on loopback, in a thread of the test.

cut()            ends all connections, with RST or with FIN
refuse()         nobody listens: new connections are refused
stall()          nothing is passed on, connections stay open, new ones are never answered
drop(to)         what goes in one direction is lost; a connection that lost something never works again
slow()           so many bytes a second, or so late
heal()           all as it should be; connections that are beyond help stay as they are
retarget(port)   new connections go to another server, as behind a name that moved
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Literal

Direction = Literal["to_server", "to_client"]
CHUNK = 1 << 16
BUFFER_MAX = 1 << 20
TICK_S = 0.01
RESET = struct.pack("ii", 1, 0)


class Lane:
    """One direction of one connection."""

    def __init__(self, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
        self.direction, self.source, self.sink = direction, source, sink
        self.waiting: deque[tuple[float, bytes]] = deque()  # (due, bytes)
        self.size = 0
        self.passed = 0
        self.allowance, self.served = 0.0, 0.0  # of bytes, where the proxy is slow, and until when counted
        self.ended = False  # the source has said its last word
        self.closed = False  # and the sink has heard so
        self.lossy = False  # some bytes are lost: nothing behind them can be passed on

    def put(self, due: float, data: bytes) -> None:
        self.waiting.append((due, data))
        self.size += len(data)


class Link:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.lanes = (Lane("to_server", client, server), Lane("to_client", server, client))
        self.stalled = False
        self.dead: set[socket.socket] = set()  # sides that are gone while the other cannot be told

    def close(self, *, reset: bool) -> None:
        for end in (self.client, self.server):
            if reset:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.close()


class Proxy:
    """A proxy in front of one server; its thread runs until `close`."""

    def __init__(self, port: int) -> None:
        """Start it.

        Arguments:
            port: of the server, on 127.0.0.1.
        """
        self._target = port
        # Bound, and never listened at: while nobody listens the port is still nobody else's.
        self._seat = socket.socket()
        self._seat.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._seat.bind(("127.0.0.1", 0))
        self.port: int = self._seat.getsockname()[1]
        self._listener: socket.socket | None = self._listen()
        self._lock = threading.Lock()
        self._links: list[Link] = []
        self._stalled = False
        self._dropped: set[Direction] = set()
        self._rate = 0.0
        self._delay_s = 0.0
        self._closing = False
        self.accepted = 0  # connections, ever
        self.lost = bytearray()  # all bytes that were dropped
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._woken, False)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """URL of the server, through the proxy."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        """How many connections there are through it."""
        with self._lock:
            return len(self._links)

    @property
    def given_up(self) -> int:
        """How many connections one side has ended while the other could not be told, in a stall."""
        with self._lock:
            return sum(bool(link.dead) for link in self._links)

    def passed(self, direction: Direction) -> int:
        """How many bytes the living connections have passed on."""
        with self._lock:
            return sum(
                lane.passed for link in self._links for lane in link.lanes if lane.direction == direction
            )

    def cut(self, *, reset: bool = True) -> None:
        """End all connections, with RST or else with FIN; new ones are welcome."""
        with self._changed():
            while self._links:
                self._links.pop().close(reset=reset)

    def refuse(self) -> None:
        """Let nobody listen: new connections are refused. Those that stand go on."""
        with self._changed():
            if self._listener is not None:
                self._listener.close()
                self._listener = None

    def stall(self) -> None:
        """Pass nothing on. New connections are made, by the kernel, and nobody takes them."""
        with self._changed():
            self._stalled = True
            for link in self._links:
                link.stalled = True

    def drop(self, direction: Direction) -> None:
        """Lose everything that goes in one direction, the end of a connection too."""
        with self._changed():
            self._dropped.add(direction)

    def slow(self, *, bytes_per_s: float = 0.0, delay_s: float = 0.0) -> None:
        """Pass on so many bytes a second in each direction of each connection (0: any), and so late."""
        with self._changed():
            self._rate, self._delay_s = bytes_per_s, delay_s

    def heal(self, *, old: bool = True) -> None:
        """Pass everything on again, and listen.

        Arguments:
            old: False to let those connections that a stall has caught stay in it for now. Real ones are
                slow to come back: the kernel repeats what was lost less and less often.

        A connection that lost bytes stays dead and silent, as in a network that has forgotten it. What
        waited in a stall is passed on, unless its sender has reset the connection meanwhile.
        """
        with self._changed():
            self._stalled = False
            for link in self._links:
                link.stalled = link.stalled and not old
            self._dropped.clear()
            self._rate = self._delay_s = 0.0
            if self._listener is None:
                self._listener = self._listen()

    def retarget(self, port: int) -> None:
        """Lead new connections to another server; those that stand stay where they are."""
        with self._changed():
            self._target = port

    def close(self) -> None:
        """The end of it and of all its connections."""
        with self._changed():
            self._closing = True
        self._thread.join()
        self.cut()
        self.refuse()
        self._seat.close()
        os.close(self._woken)
        os.close(self._wake)

    @contextlib.contextmanager
    def _changed(self) -> Iterator[None]:
        with self._lock:
            yield
        with contextlib.suppress(OSError):
            os.write(self._wake, b".")

    def _listen(self) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        listener.setblocking(False)
        return listener

    # The thread

    def _run(self) -> None:
        while not self._closing:
            with self._lock:
                poll, pause_s = self._wanted(time.monotonic())
            ready = poll.poll(None if pause_s is None else pause_s * 1000)
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4096)
            with self._lock:
                self._serve(dict(ready), time.monotonic())

    def _wanted(self, now: float) -> tuple[select.poll, float | None]:
        """What to wait for, and how long at most."""
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if self._listener is not None and not self._stalled:
            poll.register(self._listener, select.POLLIN)
        pause_s: float | None = None
        for link in self._links:
            events = {link.client: 0, link.server: 0}
            for lane in link.lanes:
                if link.stalled:
                    continue
                if not lane.ended and lane.size < BUFFER_MAX:
                    events[lane.source] |= select.POLLIN
                if lane.waiting:
                    if self._rate or lane.waiting[0][0] > now:
                        pause_s = TICK_S
                    else:
                        events[lane.sink] |= select.POLLOUT
            for end, wanted in events.items():
                if end not in link.dead:
                    poll.register(end, wanted)  # also without any: a reset is always told
        return poll, pause_s

    def _serve(self, ready: dict[int, int], now: float) -> None:
        for link in list(self._links):
            try:
                for lane in link.lanes:
                    flags = ready.get(lane.source.fileno(), 0)
                    if flags & select.POLLERR or (flags & select.POLLHUP and (link.stalled or lane.ended)):
                        link.dead.add(lane.source)
                if not link.stalled:
                    for lane in link.lanes:
                        self._move(link, lane, ready, now)
                if all(lane.closed for lane in link.lanes):
                    self._forget(link, reset=False)
            except OSError:
                self._forget(link, reset=True)
        # Last: what is ready was seen of those before, whose numbers new ones may have by now.
        if self._listener is not None and self._listener.fileno() in ready and not self._stalled:
            self._accept()

    def _move(self, link: Link, lane: Lane, ready: dict[int, int], now: float) -> None:
        if lane.source not in link.dead:
            self._fill(lane, ready, now)
        elif not lane.lossy and lane.direction not in self._dropped:
            raise ConnectionResetError  # the other side hears of it; what waited is gone, as in a kernel
        if lane.sink not in link.dead:
            self._empty(lane, now)

    def _fill(self, lane: Lane, ready: dict[int, int], now: float) -> None:
        if lane.ended or not ready.get(lane.source.fileno(), 0) & (select.POLLIN | select.POLLHUP):
            return
        try:
            data = lane.source.recv(CHUNK)
        except BlockingIOError:
            return
        lane.ended = not data
        if lane.direction in self._dropped:
            lane.lossy = True
        if lane.lossy:
            self.lost += data
        elif data:
            lane.put(now + self._delay_s, data)

    def _empty(self, lane: Lane, now: float) -> None:
        budget = float(BUFFER_MAX)
        if self._rate:
            budget = lane.allowance = lane.allowance + self._rate * min(now - lane.served, 10 * TICK_S)
        lane.served = now
        while lane.waiting and lane.waiting[0][0] <= now and budget >= 1:
            due, data = lane.waiting.popleft()
            try:
                sent = lane.sink.send(data[: int(budget)])
            except BlockingIOError:
                sent = 0
            lane.size -= sent
            lane.passed += sent
            budget -= sent
            lane.allowance -= sent
            if sent < len(data):
                lane.waiting.appendleft((due, data[sent:]))
            if not sent:
                break
        lane.allowance = min(max(lane.allowance, 0.0), self._rate)
        if lane.ended and not lane.waiting and not lane.closed and not lane.lossy:
            lane.closed = True
            lane.sink.shutdown(socket.SHUT_WR)

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        self.accepted += 1
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=1)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
            return
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._links.append(Link(client, server))

    def _forget(self, link: Link, *, reset: bool) -> None:
        if link in self._links:
            self._links.remove(link)
        link.close(reset=reset)
