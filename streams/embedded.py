"""A server that a pool starts itself, for development, demos and tests; see `embedded_program` for which one.

One server per data directory, which holds:

    lock            exclusive flock, inherited by the server process and by nobody else: held exactly as long
                    as a server works on this data, and free the moment the kernel has buried it
    redis.sock      the server's only way in (mode 600); elsewhere when the path is too long for a socket
    appendonlydir/  the data; `appendonly.aof` where a server before Redis 7.0 has written it
    server.log      what the server said since its last start
"""

import contextlib
import ctypes
import fcntl
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from . import embedded_program
from .embedded_program import Program

# Room for a path in sockaddr_un, without the closing zero byte.
SOCKET_PATH_MAX = 103 if sys.platform == "darwin" else 107
# Somebody who only asks `lock_free` holds the lock for microseconds: a start looks again before it gives up.
LOCK_PATIENCE_S = 0.2
POLL_S = 0.01
LAST_WORDS = 3
PR_SET_PDEATHSIG = 1
_SEVERAL_FILES = (7, 0)  # the first version that keeps its data in `appendonlydir`


def directory(url: str) -> Path:
    """The data directory that an `embedded` or `embedded:DIR` URL means.

    Plain `embedded` means `embedded` below $STATE_DIRECTORY, else `rsq/embedded` below $XDG_STATE_HOME, else
    below ~/.local/state. The result is absolute and free of symbolic links, so that every spelling of one
    directory leads to one socket.

    Raises:
        ValueError: not such a URL.
    """
    name, colon, place = url.partition(":")
    if name != "embedded" or (colon and not place):
        raise ValueError(f"not an embedded server: {url!r}: expected embedded or embedded:DIR")
    if place:
        return _expanded(place).resolve()
    # systemd gives several directories separated by colons; the first is the unit's own.
    if state := os.environ.get("STATE_DIRECTORY", "").split(":")[0]:
        return Path(state, "embedded").resolve()
    home = os.environ.get("XDG_STATE_HOME") or _expanded("~/.local/state")
    return Path(home, "rsq", "embedded").resolve()


def _expanded(place: str) -> Path:
    try:
        return Path(place).expanduser()
    except RuntimeError:  # no $HOME, and no such user on this system
        raise ValueError(
            f"embedded server: there is no home directory for {place}: write embedded:DIR, or set HOME"
        ) from None


def socket_path(data: Path) -> Path:
    """The server's socket: in the data directory if the path fits a unix socket, else a name derived from it.

    The derived name is stable; its folder is the user's, in $XDG_RUNTIME_DIR or the temporary directory.

    Raises:
        ValueError: no place is short enough.
    """
    wanted = data / "redis.sock"
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    for path in (wanted, *(folder / f"{digest}.sock" for folder in _short_folders())):
        if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
            return path
    raise ValueError(f"no unix socket fits beside {data}: set XDG_RUNTIME_DIR to a shorter directory")


def command(data: Path, program: Program) -> list[str]:
    """Return the server's command line: its socket is the only way in, and it writes every change to disk."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path(data)),
        "unixsocketperm": "600",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "loglevel": "warning",
    }
    return [str(program.path), *(word for name, value in options.items() for word in (f"--{name}", value))]


def start(
    data: Path, *, stdout: IO[bytes] | None = None, wait_s: float = LOCK_PATIENCE_S
) -> subprocess.Popen[bytes]:
    """Start the server on `data`, which is made with mode 0700 if it is missing.

    The server gets a session of its own, so that a terminal's Ctrl-C does not reach it before it reaches the
    pool. On Linux it receives SIGTERM when the calling *thread* ends: call this from the main thread.

    Arguments:
        data: the data directory, as `directory` gives it.
        stdout: where the server's words go, both outputs; default is `server.log` in `data`, begun anew.
        wait_s: how many seconds to wait for another server on the same data to end.

    Raises:
        RuntimeError: another server works on the same data.
        ValueError: there is no program to run, the directory cannot be used, or an older program would
            not see the data in it.
    """
    program = embedded_program.find()
    argv = command(data, program)
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        _prepare_socket_folder(socket_path(data).parent, data)
        with contextlib.ExitStack() as opened:
            lock = opened.enter_context(_lock_file(data))
            if not _acquire(lock, time.monotonic() + wait_s):
                raise RuntimeError(f"the embedded server on {data} is already running")
            _refuse_newer_data(data, program)
            log = Path(data, "server.log")
            log.unlink(missing_ok=True)
            return subprocess.Popen(  # noqa: S603 - our binary, our options, no shell
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stdout or opened.enter_context(log.open("wb")),
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
                preexec_fn=die_with_parent(),  # noqa: PLW1509 - the callers have no threads
            )
    except OSError as error:
        raise ValueError(f"embedded server in {data}: {error.strerror or error}") from error


def wait_ready(data: Path, deadline_s: float) -> None:
    """Return once the server on `data` answers PING; while it still loads its data it is not ready.

    Arguments:
        data: the data directory, as `directory` gives it.
        deadline_s: until when to wait, on the clock of `time.monotonic`.

    Raises:
        RuntimeError: the server has ended; with its last words.
        TimeoutError: it has not answered in time; with its last words.
    """
    path = socket_path(data)
    while True:
        # In this order: a server that answers holds the lock, one that has ended does neither.
        ended = lock_free(data)
        if not ended and _answers(path, deadline_s):
            return
        if ended:
            raise RuntimeError(f"the embedded server on {data} has ended: {_last_words(data)}")
        if time.monotonic() >= deadline_s:
            raise TimeoutError(f"the embedded server on {data} does not answer: {_last_words(data)}")
        time.sleep(POLL_S)


def lock_free(data: Path) -> bool:
    """Whether no server works on `data` at this moment."""
    try:
        with Path(data, "lock").open("rb") as lock:
            return _try_lock(lock, fcntl.LOCK_SH)  # two who only ask are not in each other's way
    except FileNotFoundError:
        return True


@contextlib.contextmanager
def _lock_file(data: Path) -> Iterator[IO[bytes]]:
    # A flock belongs to the open file, not to the process: closing our copy leaves it with the server.
    with Path(data, "lock").open("ab") as lock:
        yield lock


def _acquire(lock: IO[bytes], deadline: float) -> bool:
    while not _try_lock(lock):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def _try_lock(lock: IO[bytes], kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refuse_newer_data(data: Path, program: Program) -> None:
    """Raise ValueError where the program would begin with nothing: before Redis 7.0 it sees one file only."""
    if program.version < _SEVERAL_FILES and Path(data, "appendonlydir").is_dir():
        raise ValueError(
            f"embedded server in {data}: {program} does not see data that a later one has written"
        )


def _short_folders() -> list[Path]:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return [*([Path(runtime, "rsq")] if runtime else []), Path(tempfile.gettempdir(), f"rsq-{os.getuid()}")]


def _prepare_socket_folder(folder: Path, data: Path) -> None:
    if folder == data:
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The temporary directory is everybody's: another user must not have made the folder for us.
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise ValueError(f"{folder} must be a directory of this user with mode 0700")


def die_with_parent() -> Callable[[], None] | None:
    """What a child has to call before its exec to be told to end when we end; None where there is no such."""
    if sys.platform != "linux":
        return None
    parent = os.getpid()
    # Looked up before the fork: a child must not load libraries.
    prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return in_child


def _answers(path: Path, deadline_s: float) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(max(POLL_S, min(1.0, deadline_s - time.monotonic())))
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _last_words(data: Path) -> str:
    try:
        log = Path(data, "server.log").read_text(errors="replace")
    except OSError:
        return "it left no log"
    # Its warnings are about the machine's settings; none is the reason for an end.
    lines = [line.strip() for line in log.splitlines() if line.strip() and "WARNING" not in line]
    return " | ".join(lines[-LAST_WORDS:]) or "it said nothing"
