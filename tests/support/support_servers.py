"""Real servers for tests: every binary that can be found, on private sockets, stopped whatever happens.

found()           the binaries: the embedded one, `redis-server` and `valkey-server` on the PATH
Server(binary)    one server, which can be started, stopped, killed, frozen and started again
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import redis

from rsq.streams import embedded

READY_S = 20.0
PR_SET_PDEATHSIG = 1


def stand_still(*pids: int) -> None:
    """Stop processes, and wait until they stand: a running one goes on for a while after the signal."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 30
    while moving := [pid for pid in pids if psutil.Process(pid).status() != psutil.STATUS_STOPPED]:
        assert time.monotonic() < deadline, f"processes {moving} go on after SIGSTOP"
        time.sleep(0.001)


@dataclass(frozen=True)
class Binary:
    """A server program and what it says it is."""

    path: Path
    product: str  # embedded, redis, valkey
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.product}-{'.'.join(map(str, self.version[:2]))}"


@cache
def found() -> tuple[Binary, ...]:
    """Every server on this machine, the embedded one first."""
    paths = [("embedded", embedded.binary())]
    for product in ("redis", "valkey"):
        path = shutil.which(f"{product}-server")
        paths += [(product, Path(path))] if path else []
    return tuple(Binary(path, product, _version(path)) for product, path in paths)


class PortTakenError(RuntimeError):
    """Somebody else has bound the port between its choice and the start."""


class Server:
    """One server process with a data directory of its own.

    Attributes:
        url: `unix://` URL of its private socket.
        version: as a tuple, (7, 0, 15).
        directory: where its data and its log are; short enough for sockets of other things too.
        process: the process while it is started, else None.
    """

    def __init__(self, binary: Binary, *, durable: bool) -> None:
        """Prepare a server without starting it.

        Arguments:
            binary: what to start.
            durable: keep an append-only file, so that a restart, even after `kill`, finds all data again.
        """
        self.binary = binary
        self.name = binary.name
        self.version = binary.version
        self.directory = Path(tempfile.mkdtemp(prefix="rsq-", dir=_fast_folder()))
        self.socket = self.directory / "s"
        self.url = f"unix://{self.socket}?db=0"
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.options: dict[str, str] = {}  # more settings, from the next start on
        self._durable = durable
        self._has_run = False
        self._clients: list[redis.Redis] = []
        _live.add(self)

    def __repr__(self) -> str:
        return f"<Server {self.name} {self.directory}>"

    @property
    def tcp_url(self) -> str:
        """URL of its port on 127.0.0.1."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self.process is not None, "the server is not started"
        return self.process.pid

    def client(self, **options: Any) -> redis.Redis:
        """A client with a pool of its own, closed after the test; replies are bytes by default."""
        made = redis.Redis.from_url(self.url, **{"protocol": 2, "socket_timeout": 20, **options})
        self._clients.append(made)
        return made

    def start(self, *, ready: bool = True) -> None:
        """Start it on the data it has, and return when it answers, or when it is loading."""
        assert self.process is None, "the server is started already"
        for attempts_left in (2, 1, 0):
            try:
                self._start(ready=ready)
                return
            except PortTakenError:
                # The port was free when it was chosen; clients know it only once the server has run.
                if self._has_run or not attempts_left:
                    raise
                self.port = _free_port()

    def stop(self) -> None:
        """End it in order: it writes out what it has."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would (what it has written is kept: the operating system lives on)."""
        self._end(signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside the block it answers nobody, though connections stay open."""
        process = self.process
        assert process is not None, "the server is not started"
        stand_still(process.pid)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def flush(self) -> None:
        """Back to a new server's state: started, without data, without configuration of a test."""
        if self.process is None or self.process.poll() is not None:
            self.process = None
            self.start()
        self.close_clients()
        admin = self.client()
        admin.flushall()
        admin.config_set("maxmemory", 0)
        admin.script_flush()
        for user in admin.acl_users():
            if _text(user) != "default":
                admin.acl_deluser(_text(user))

    def close_clients(self) -> None:
        """Close every client that `client` gave."""
        while self._clients:
            self._clients.pop().close()

    def discard(self) -> None:
        """The end: no process, no files."""
        self.close_clients()
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        _live.discard(self)

    def log(self) -> str:
        """What it has written to its log, over all its starts."""
        return Path(self.directory, "log").read_text(errors="replace")

    def _start(self, *, ready: bool) -> None:
        with Path(self.directory, "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509
            )
        self._wait_ready((b"+PONG",) if ready else (b"+PONG", b"-LOADING"))
        self._has_run = True

    def _command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": str(self.socket),
            "dir": str(self.directory),
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            "daemonize": "no",
            "loglevel": "notice",
            **self.options,
        }
        return [str(self.binary.path), *(word for k, v in options.items() for word in (f"--{k}", v))]

    def _wait_ready(self, answers: tuple[bytes, ...]) -> None:
        assert self.process is not None
        deadline = time.monotonic() + READY_S
        while not self._answers(answers):
            if self.process.poll() is not None:
                self.process = None
                kind = PortTakenError if "in use" in self.log() else RuntimeError
                raise kind(f"{self!r} did not start:\n{self.log()}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self!r} does not answer:\n{self.log()}")
            time.sleep(0.005)

    def _answers(self, answers: tuple[bytes, ...]) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(answers)
            except OSError:
                return False

    def _end(self, number: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(READY_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


# Servers that a test or its fixture has not discarded: a crash of the test run must not leave them behind.
_live: set[Server] = set()


@atexit.register
def _discard_all() -> None:
    for server in list(_live):
        server.discard()


def _version(path: Path) -> tuple[int, ...]:
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    numbers = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", said)
    assert numbers, said
    return tuple(map(int, numbers.groups()))


def _fast_folder() -> str | None:
    # Append-only files want no disk in tests; and /dev/shm is a short name, as sockets need.
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _die_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return in_child


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
