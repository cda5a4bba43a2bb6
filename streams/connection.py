"""How to reach the server: clients for tools, bare connections for the fast path.

redis-py makes and owns every connection (TCP, TLS, unix sockets, authentication). What we do not leave to it
are its defaults: it would send a command again after a lost connection, and a read or a push that is sent
twice strands or doubles messages. So: a connection is tried more than once, a command never, unless the
server has said that it did not execute it.
"""

import re
import time
from typing import Any

import redis
from redis.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import RedisError as RedisError  # for those who may not import redis
from redis.exceptions import ResponseError

from .connecting import AGAIN as AGAIN
from .connecting import KEEPALIVE_IDLE_S as KEEPALIVE_IDLE_S
from .connecting import WRONG_SERVER as WRONG_SERVER
from .connecting import again, connected, find, settings_of
from .connecting import sock as sock
from .discovery import Address
from .lookout import Lookout, lookout
from .trouble import code
from .trouble import elsewhere as elsewhere
from .trouble import explain as explain
from .trouble import permanent as permanent
from .url import Target as Target
from .url import redact as redact
from .url import target as target

CONNECT_PAUSES_S = (0.05, 0.2, 0.5)


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
        settings["place"] = Place(target, timeout_s)
        settings["retry"] = again(AGAIN)
    settings["label"] = name or "rsq"
    pool = ConnectionPool(connection_class=_PATIENT[kind], **settings, decode_responses=decode)
    return redis.Redis.from_pool(pool)


def connect(
    target: Target, *, name: str, timeout_s: float, watch: Lookout | None = None
) -> AbstractConnection:
    """One connection: connected, authenticated, its database selected, RESP2, replies as bytes.

    It is tried once: who calls this in a loop has a backoff of its own. Nothing is ever sent on it unasked
    (no retries, no health checks), so the caller may write to and read from the socket itself.

    Behind sentinels it leads to the server that is the primary now, in a cluster to the node that owns the
    target's key now. An answer that is `elsewhere` says that this is over: connect again.

    Arguments:
        target: the server; in a cluster with `Target.for_key`.
        name: shown by CLIENT LIST; empty for none.
        timeout_s: seconds to wait for the connection, and for each answer read through it.
        watch: finds the server, and knows it then.

    Raises:
        redis.exceptions.RedisError: see `explain` and `permanent`.
    """
    kind, settings = settings_of(target, timeout_s)
    if target.way != "direct":
        settings["host"], settings["port"] = watch.find() if watch else find(target, timeout_s)
    connection = connected(kind, settings)
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
    if code(error) not in {None, "NOPERM", "NOCOMMAND"}:
        raise error


class Place:
    """Where the connections of one pool lead to: found anew for each of them."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        """Ask nothing yet; for the arguments see `find`."""
        self._target, self._timeout_s = target, timeout_s
        self.lookout = lookout(target, timeout_s)

    def find(self) -> Address:
        """See `connecting.find`."""
        return self.lookout.find() if self.lookout else find(self._target, self._timeout_s)


class Patient(AbstractConnection):
    """Connects again after a short while, each time to where the server is now.

    It is given up, for the next use, once an answer has said that it leads to the wrong server, or a sentinel
    names another one.
    """

    host: str
    port: int

    def __init__(self, label: str, place: Place | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._place, self._label = place, label
        self._is_wrong = False  # the server has said so

    def is_replaced(self) -> bool:
        """Tell whether another server has taken the place of this one, by the sentinels' word."""
        watch = self._place.lookout if self._place else None
        return watch is not None and not watch.still((self.host, self.port))

    def connect(self) -> None:
        if self._sock is not None and (self._is_wrong or self.is_replaced()):
            self.disconnect()
        if self._sock is None:  # redis-py's pools call it for every use
            self._connect_patiently()

    def send_packed_command(self, *args: Any, **options: Any) -> None:
        self.connect()  # what redis-py does here by itself after a disconnect would not look for the server
        above: Any = super()
        above.send_packed_command(*args, **options)

    def read_response(self, *args: Any, **options: Any) -> Any:
        above: Any = super()
        try:
            return above.read_response(*args, **options)
        except RedisError as error:
            self._is_wrong = self._is_wrong or elsewhere(error)
            raise

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
        if self._place is not None:
            self.host, self.port = self._place.find()
        self._is_wrong = False
        above: Any = super()
        above.connect()
        try:
            _give_name(self, self._label)
        except BaseException:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise


def is_replaced(link: Any) -> bool:
    """Whether another server took the place of the one that a connection leads to, as far as is known."""
    return isinstance(link, Patient) and link.is_replaced()


class _PatientTcp(Patient, Connection):
    pass


class _PatientTls(Patient, SSLConnection):
    pass


class _PatientUnix(Patient, UnixDomainSocketConnection):
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
