"""One connection, made once: its settings, and where the server is now."""

import inspect
import socket
import sys
import time
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.connection import AbstractConnection, UnixDomainSocketConnection
from redis.exceptions import AskError, ClusterDownError, MovedError, ReadOnlyError, TryAgainError
from redis.retry import Retry

from .discovery import Address as Address
from .discovery import locate
from .url import Target, parse

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


def find(target: Target, timeout_s: float) -> Address:
    """Where the server is now; see `locate`. It takes little longer than the time-out, whoever is silent."""
    deadline = time.monotonic() + timeout_s

    def ask(address: Address, *command: str | bytes, sentinel: bool = False) -> Any:
        left = min(ASK_S, deadline - time.monotonic())
        if left <= 0:
            raise redis.exceptions.TimeoutError("no time left to ask")
        link: Any = connected(*ask_of(target, address, left, sentinel=sentinel))
        try:
            link.send_command(*command)
            return link.read_response()
        finally:
            link.disconnect()

    return locate(target, ask)


def ask_of(
    target: Target, address: Address, timeout_s: float, *, sentinel: bool = False
) -> tuple[Any, dict[str, Any]]:
    """The class and the settings of a connection on which somebody is asked for the server.

    Arguments:
        target: the server that is looked for.
        address: whom to ask.
        timeout_s: for connecting, and for each answer.
        sentinel: whether it is a sentinel, with user and password of its own.
    """
    kind, settings = settings_of(target, timeout_s)
    settings["host"], settings["port"] = address
    if sentinel:
        for name in ("username", "password", "db"):
            settings.pop(name, None)
        settings |= parse(target)[2]
    return kind, settings


def connected(kind: Any, settings: dict[str, Any]) -> AbstractConnection:
    """A connection that is tried once."""
    connection: AbstractConnection = kind(**settings)
    connection.connect()  # type: ignore[no-untyped-call]
    return connection


def settings_of(target: Target, timeout_s: float) -> tuple[Any, dict[str, Any]]:
    """The class of a connection (one that blocks) and all its settings, ours included."""
    kind, settings, _ = parse(target)
    settings |= {
        "protocol": 2,
        "retry": again(0),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        **_QUIET,
    }
    if kind is not UnixDomainSocketConnection:
        settings |= {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}
    return kind, settings


def again(times: int) -> Retry:
    """For redis-py: send a command again so often, where an answer says that it was not executed."""
    # Lost connections are not among its errors, whatever `times` is. The connection that gave one of those
    # answers is closed in any case.
    return Retry(ExponentialBackoff(AGAIN_MAX_S, AGAIN_BASE_S), times, WRONG_SERVER)


def _keepalive() -> dict[int, int]:
    idle = "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE"
    wanted = {idle: KEEPALIVE_IDLE_S, "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_S, "TCP_KEEPCNT": KEEPALIVE_PROBES}
    return {getattr(socket, option): value for option, value in wanted.items() if hasattr(socket, option)}
