"""How to reach the server: URLs, clients for tools, bare connections for the fast path.

redis-py makes and owns every connection (TCP, TLS, unix sockets, authentication). What we do not leave to it
are its defaults: it would send a command again after a lost connection, and a read or a push that is sent
twice strands or doubles messages. So: a connection is tried more than once, a command never.
"""

import re
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.exceptions import RedisError as RedisError  # for those who may not import redis
from redis.exceptions import ResponseError
from redis.retry import Retry

from . import embedded
from .trouble import explain as explain
from .trouble import permanent as permanent

SCHEMES = ("redis", "rediss", "unix")
CONNECT_PAUSES_S = (0.05, 0.2, 0.5)
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_PROBES = 30, 5, 3
HIDDEN = "***"
# Settings of redis-py that a URL may carry, but that are ours to decide; the last two belong to its pools.
OURS = {"protocol", "decode_responses", "client_name", "socket_timeout", "socket_connect_timeout"}
OURS |= {"retry", "retry_on_error", "retry_on_timeout", "health_check_interval", "max_connections", "timeout"}


@dataclass(frozen=True, repr=False)
class Target:
    """A server that can be connected to.

    Attributes:
        url: what redis-py understands, secrets included: never print it.
        redacted: what a person may see.
        data: data directory of the embedded server, None for a server that is not ours to start.
    """

    url: str
    redacted: str
    data: Path | None = None

    def __repr__(self) -> str:
        return self.redacted


def target(url: str) -> Target:
    """The server that a URL names.

    Arguments:
        url: `redis://`, `rediss://` (TLS), `unix://`, `embedded` or `embedded:DIR`.

    Raises:
        ValueError: one line about what is wrong with the URL; it never shows a password.
    """
    if url == "embedded" or url.startswith("embedded:"):
        data = embedded.directory(url)
        return Target(f"unix://{quote(str(embedded.socket_path(data)))}?db=0", f"embedded:{data}", data)
    if fault := _fault(url):
        raise ValueError(f"Redis URL {redact(url)}: {fault}")
    return Target(url, redact(url))


def redact(url: str) -> str:
    """The URL without its secrets, also when it is not a well-formed one.

    What stands before the last `@` is taken for user and password even if characters in it should have been
    percent-encoded. A user without a password is hidden too: it often is the password.
    """
    if url.startswith("embedded"):
        return url
    scheme, separator, rest = url.partition("://")
    if not re.fullmatch(r"unix|https?|tcp|[a-z+]*(redis|valkey|sentinel|cluster)[a-z+]*", scheme):
        scheme, separator, rest = "", "", url  # what is not a scheme may be part of a password
    place, question, query = rest.partition("?")
    if "@" in query and not (_port_is_number(place) and _is_query(query)):
        place, question, query = rest, "", ""  # the `?` is part of a password
    if "@" in place and not place.startswith("/"):
        userinfo, _, host = place.rpartition("@")
        user, colon, _ = userinfo.partition(":")
        place = f"{user}:{HIDDEN}@{host}" if colon else f"{HIDDEN}@{host}"
    pairs = [_redact_pair(pair) for pair in query.split("&")]
    return f"{scheme}{separator}{place}{question}{'&'.join(pairs)}"


def client(
    target: Target, *, timeout_s: float = 10.0, name: str | None = None, decode: bool = False
) -> redis.Redis:
    """A redis-py client for tools and producers, with a pool of its own; nothing is connected yet.

    A refused connection is tried again for less than a second; a command is never sent again.

    Arguments:
        target: the server.
        timeout_s: seconds to wait for a connection, and for each answer.
        name: shown by CLIENT LIST.
        decode: whether replies are str instead of bytes.
    """
    kind, settings = _settings(target, timeout_s, name)
    pool = ConnectionPool(connection_class=_PATIENT[kind], **settings, decode_responses=decode)
    return redis.Redis.from_pool(pool)


def connect(target: Target, *, name: str, timeout_s: float) -> AbstractConnection:
    """One connection: connected, authenticated, its database selected, RESP2, replies as bytes.

    It is tried once: who calls this in a loop has a backoff of its own. Nothing is ever sent on it unasked
    (no retries, no health checks), so the caller may write to and read from the socket itself.

    Arguments:
        target: the server.
        name: shown by CLIENT LIST.
        timeout_s: seconds to wait for the connection, and for each answer read through it.

    Raises:
        redis.exceptions.RedisError: see `explain` and `permanent`.
    """
    kind, settings = _settings(target, timeout_s, name)
    connection = kind(**settings)
    _be_quiet(connection)
    connection.connect()
    made: AbstractConnection = connection
    return made


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
    """Connects again after a short while. Commands are not sent again: `retry` stays empty."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        _be_quiet(self)

    def connect(self) -> None:
        above: Any = super()
        for pause in CONNECT_PAUSES_S:
            try:
                above.connect()
                return
            except redis.exceptions.ConnectionError as error:
                if permanent(error):
                    raise
            time.sleep(pause)
        above.connect()


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


def _parse(url: str) -> tuple[Any, dict[str, Any]]:
    """The class of connection that a URL asks for, and its settings without those that are ours."""
    parse: Callable[[str], dict[str, Any]] = parse_url
    given = parse(url)
    kind = given.pop("connection_class", Connection)
    return kind, {key: value for key, value in given.items() if key not in OURS}


def _settings(target: Target, timeout_s: float, name: str | None) -> tuple[Any, dict[str, Any]]:
    kind, settings = _parse(target.url)
    settings |= {
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "client_name": name and re.sub(r"[^!-~]", "_", name),  # the server takes no others
    }
    if kind is not UnixDomainSocketConnection:
        settings |= {"socket_keepalive": True, "socket_keepalive_options": _keepalive()}
    return kind, settings


def _keepalive() -> dict[int, int]:
    idle = "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE"
    wanted = {idle: KEEPALIVE_IDLE_S, "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_S, "TCP_KEEPCNT": KEEPALIVE_PROBES}
    return {getattr(socket, option): value for option, value in wanted.items() if hasattr(socket, option)}


def _be_quiet(connection: AbstractConnection) -> None:
    # CLIENT SETINFO costs two round trips and is an error before 7.2; where it is kept differs by release.
    for attribute in ("driver_info", "lib_name", "lib_version"):
        if hasattr(connection, attribute):
            setattr(connection, attribute, None)


def _fault(url: str) -> str | None:
    scheme, separator, _ = url.partition("://")
    if "sentinel" in scheme or "cluster" in scheme:
        return f"{scheme}:// is not supported yet"
    if not separator or scheme not in SCHEMES:
        return "expected redis://, rediss://, unix://, embedded or embedded:DIR"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "bad host or port; these characters of a password must be percent-encoded: / ? # @ : [ ] %"
    if port == 0 or parts.fragment:
        return "the port is 0" if port == 0 else "# must be written %23"
    if not all("=" in pair for pair in parts.query.split("&") if parts.query):
        return "an option after the ? has no value"
    if scheme == "unix" and not parts.path:
        return "expected unix:///path/to/socket"
    if scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path):
        return "the path must be the number of a database, as in /0"
    try:
        kind, settings = _parse(url)
        kind(**settings)
    except (TypeError, ValueError, RedisError):
        return "unknown or bad option after the ?"
    return None


def _port_is_number(place: str) -> bool:
    host = place.rpartition("@")[2].partition("/")[0]
    return re.fullmatch(r"(\[[^]]*\]|[^:]*)(:\d*)?", host) is not None


def _is_query(query: str) -> bool:
    option = r"(db|username|password|protocol|timeout|[a-z]+(_[a-z]+)+)=.*"
    return all(re.fullmatch(option, unquote_plus(pair)) for pair in query.split("&"))


def _redact_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    secret = any(word in unquote_plus(name).lower() for word in ("pass", "secret", "token", "key_data"))
    return f"{name}={HIDDEN}" if equals and secret else pair
