"""How to reach the server: clients for tools, bare connections for the fast path.

redis-py makes and owns every connection (TCP, TLS, unix sockets, authentication). What we do not leave to it
are its defaults: it would send a command again after a lost connection, and a read or a push that is sent
twice strands or doubles messages. So: a connection is tried more than once, a command never, unless the
server has said that it did not execute it.
"""

import inspect
import re
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import RedisError as RedisError  # for those who may not import redis
from redis.retry import Retry

from .discovery import Address, locate
from .trouble import code
from .trouble import elsewhere as elsewhere
from .trouble import explain as explain
from .trouble import permanent as permanent
from .url import Target as Target
from .url import parse
from .url import redact as redact
from .url import target as target

CONNECT_PAUSES_S = (0.05, 0.2, 0.5)
# One question to a sentinel or to a node: the next one may know more than one that keeps us waiting.
ASK_S = 2.0
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 30, 5, 3
# Answers that say that nothing was executed, and that another server has to be found.
WRONG_SERVER = (MovedError, AskError, TryAgainError, ReadOnlyError, ClusterDownError)
AGAIN, AGAIN_BASE_S, AGAIN_MAX_S = 6, 0.1, 1.0
# CLIENT SETINFO costs two round trips and is an error before 7.2, and to find out what it would say redis-py
# reads the metadata of its package for each connection. How it is told to be quiet differs by release.
_QUIET: dict[str, None] = dict.fromkeys(
    ("driver_info",)
    if "driver_info" in inspect.signature(AbstractConnection).parameters
    else ("lib_name", "lib_version")
)


def client(
    target: Target, *, timeout_s: float = 10.0, name: str | None = None, decode: bool = False
) -> redis.Redis:
    """A redis-py client for tools and producers, with a pool of its own; nothing is connected yet.

    A refused connection is tried again for less than a second. A command is not sent again, but for one case:
    behind sentinels or in a cluster, if the server says that it did not execute it for being the wrong one.

    Arguments:
        target: the server.
        timeout_s: seconds to wait for a connection, and for each answer.
        name: shown by CLIENT LIST; default `rsq`.
        decode: whether replies are str instead of bytes.
    """
    # Always a name: redis-py's pools take the session tickets of TLS 1.3 for an answer that nobody has read,
    # unless an exchange at the beginning has read them.
    kind, settings = settings_of(target, timeout_s)
    if target.way != "direct":
        settings["find"] = lambda: find(target, timeout_s)
        settings["retry"] = _retry(AGAIN)
    settings["label"] = name or "rsq"
    pool = ConnectionPool(connection_class=_PATIENT[kind], **settings, decode_responses=decode)
    return redis.Redis.from_pool(pool)


def connect(target: Target, *, name: str, timeout_s: float) -> AbstractConnection:
    """One connection: connected, authenticated, its database selected, RESP2, replies as bytes.

    It is tried once: who calls this in a loop has a backoff of its own. Nothing is ever sent on it unasked
    (no retries, no health checks), so the caller may write to and read from the socket itself.

    Behind sentinels it leads to the server that is the primary now, in a cluster to the node that owns the
    target's key now. An answer that is `elsewhere` says that this is over: connect again.

    Arguments:
        target: the server; in a cluster with `Target.for_key`.
        name: shown by CLIENT LIST; empty for none.
        timeout_s: seconds to wait for the connection, and for each answer read through it.

    Raises:
        redis.exceptions.RedisError: see `explain` and `permanent`.
    """
    kind, settings = settings_of(target, timeout_s)
    if target.way != "direct":
        settings["host"], settings["port"] = find(target, timeout_s)
    connection = _connected(kind, settings)
    try:
        _give_name(connection, name)
    except BaseException:
        connection.disconnect()  # type: ignore[no-untyped-call]
        raise
    return connection


def _give_name(connection: AbstractConnection, name: str) -> None:
    """Name a connection for CLIENT LIST; go without where the server does not have or allow the command."""
    if not name:
        return
    connection.send_command(*naming(name))  # type: ignore[no-untyped-call]
    try:
        connection.read_response()
    except ResponseError as error:
        unless_needed(error)


def naming(name: str) -> tuple[str, str, str]:
    """The command that names a connection: the server takes no spaces and no control characters."""
    return "CLIENT", "SETNAME", re.sub(r"[^!-~]", "_", name)


def unless_needed(error: ResponseError) -> None:
    """Pass over the refusal of a command that nothing depends on.

    Raises:
        ResponseError: the refusal says more than that the command is missing, renamed or not allowed.
    """
    if code(error) not in {None, "NOPERM"}:
        raise error


def sock(connection: AbstractConnection) -> socket.socket:
    """The socket of a connected connection; a TLS one with `rediss://`.

    Raises:
        redis.exceptions.ConnectionError: it is not connected.
    """
    # The one private attribute of redis-py that we need; tests/integration/test_connection.py guards it.
    found: socket.socket | None = connection._sock
    if found is None:
        raise redis.exceptions.ConnectionError("not connected")
    return found


class _Patient(AbstractConnection):
    """Connects again after a short while, each time to where `find` says that the server is now."""

    def __init__(self, label: str, find: Callable[[], Address] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._find, self._label = find, label

    def connect(self) -> None:
        if self._sock is None:  # redis-py's pools call it for every use
            self._connect_patiently()

    def send_packed_command(self, *args: Any, **options: Any) -> None:
        self.connect()  # what redis-py does here by itself after a disconnect would skip `find`
        above: Any = super()
        above.send_packed_command(*args, **options)

    def _connect_patiently(self) -> None:
        for pause in CONNECT_PAUSES_S:
            try:
                self._connect_once()
                return
            except (redis.exceptions.ConnectionError, *WRONG_SERVER) as error:
                if permanent(error):
                    raise
            time.sleep(pause)
        self._connect_once()

    def _connect_once(self) -> None:
        if self._find is not None:
            self.host, self.port = self._find()
        above: Any = super()
        above.connect()
        try:
            _give_name(self, self._label)
        except BaseException:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise


class _PatientTcp(_Patient, Connection):
    pass


class _PatientTls(_Patient, SSLConnection):
    pass


class _PatientUnix(_Patient, UnixDomainSocketConnection):
    pass


_PATIENT: dict[Any, Any] = {
    Connection: _PatientTcp,
    SSLConnection: _PatientTls,
    UnixDomainSocketConnection: _PatientUnix,
}


def probe(target: Target, stream: str, group: str, timeout_s: float) -> None:
    """Ask the server once whether a group's consumer could work there.

    Arguments:
        target: the server.
        stream, group: looked at with XPENDING, which every consumer needs; either may be missing.
        timeout_s: for connecting, and for the answer.

    Raises:
        redis.exceptions.RedisError: it could not; see `permanent` and `explain`.
    """
    connection = connect(target, name="rsq: probe", timeout_s=timeout_s)
    try:
        connection.send_command("XPENDING", stream, group)  # type: ignore[no-untyped-call]
        connection.read_response()
    except ResponseError as error:
        if not str(error).startswith("NOGROUP"):
            raise
    finally:
        connection.disconnect()  # type: ignore[no-untyped-call]


def find(target: Target, timeout_s: float) -> Address:
    """Where the server is now; see `locate`. It takes little longer than the time-out, whoever is silent."""
    deadline = time.monotonic() + timeout_s

    def ask(address: Address, *command: str | bytes, sentinel: bool = False) -> Any:
        left = min(ASK_S, deadline - time.monotonic())
        if left <= 0:
            raise redis.exceptions.TimeoutError("no time left to ask")
        kind, settings = settings_of(target, left)
        settings["host"], settings["port"] = address
        if sentinel:
            for name in ("username", "password", "db"):
                settings.pop(name, None)
            settings |= parse(target)[2]
        link: Any = _connected(kind, settings)
        try:
            link.send_command(*command)
            return link.read_response()
        finally:
            link.disconnect()

    return locate(target, ask)


def _connected(kind: Any, settings: dict[str, Any]) -> AbstractConnection:
    connection: AbstractConnection = kind(**settings)
    connection.connect()  # type: ignore[no-untyped-call]
    return connection


def settings_of(target: Target, timeout_s: float) -> tuple[Any, dict[str, Any]]:
    """The class of a connection (one that blocks) and all its settings, ours included."""
    kind, settings, _ = parse(target)
    settings |= {
        "protocol": 2,
        "retry": _retry(0),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        **_QUIET,
    }
    if kind is not UnixDomainSocketConnection:
        settings |= {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}
    return kind, settings


def _retry(times: int) -> Retry:
    # Lost connections are not among its errors, whatever `times` is. The connection that gave one of those
    # answers is closed in any case.
    return Retry(ExponentialBackoff(AGAIN_MAX_S, AGAIN_BASE_S), times, WRONG_SERVER)


def _keepalive() -> dict[int, int]:
    idle = "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE"
    wanted = {idle: KEEPALIVE_IDLE_S, "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_S, "TCP_KEEPCNT": KEEPALIVE_PROBES}
    return {getattr(socket, option): value for option, value in wanted.items() if hasattr(socket, option)}
