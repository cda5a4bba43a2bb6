"""What an error of the server, or of the way to it, means to a person and to a loop that could try again.

Errors come from redis-py, which takes the code word off the server's line, and from hiredis on the fast path,
which leaves it there; in the errors of scripts the word stands somewhere in the text, where depends on the
version. `code` finds it in all of them.
"""

import errno
import re
import socket
import ssl
from typing import Protocol

from redis import exceptions

_MOVING = (
    "the key's slot is being moved to another node of the cluster: wait for the end; redis-cli --cluster"
    " check finds a slot that was left open"
)
CODES = {
    "WRONGPASS": "user or password refused: check both in the URL",
    "NOAUTH": "the server wants a password: put it into the URL, redis://:PASSWORD@host",
    "NOPERM": "the server does not allow it to this user: grant it with ACL SETUSER",
    "WRONGTYPE": "a key of that name is not a stream: choose another name or remove the key",
    "LOADING": "the server is still loading its data: wait for it",
    "READONLY": "the server is a read-only replica: point the URL to its primary",
    "OOM": "the server is out of memory: raise its maxmemory or make room; nothing was written",
    "MISCONF": "the server refuses writes because it cannot save to its disk: see its log and the disk",
    "MASTERDOWN": "the server is a replica without its primary: wait for the failover, or check the primary",
    "UNBLOCKED": "the server stopped serving a read that waited: a failover, or its slot moved; reconnecting",
    "MOVED": "another node of the cluster owns this key now: redis+cluster:// in the URL finds it by itself",
    "ASK": _MOVING,
    "TRYAGAIN": _MOVING,
    "CROSSSLOT": "keys of one command are in different hash slots of the cluster: give stream and dead"
    " letters one hash tag, as in {orders} and {orders}:dlq",
    "NOREPLICAS": "the primary reaches fewer replicas than its min-replicas-to-write: it may be cut off from"
    " them, or replaced: check its replicas",
    "CLUSTERDOWN": "the cluster does not serve this key: too many masters are down, or its slot has no"
    " owner: see CLUSTER INFO, or wait for the failover",
    "NODB": "the server has no such database: correct the number at the end of the URL, redis://host/0;"
    " a cluster has no other than 0",
    "NOCOMMAND": "the server does not know this command: use Redis 6.2 or newer, or Valkey, and rename none",
    "DENIED": "the server is in protected mode: give it a password, or connect from its own host",
    "NOSERVICE": "no sentinel knows the primary under this name: correct it in the URL,"
    " redis+sentinel://h1,h2/SERVICE",
}
PERMANENT = frozenset(
    {"WRONGPASS", "NOAUTH", "NOPERM", "WRONGTYPE", "NOSERVICE", "NODB", "NOCOMMAND", "DENIED"}
)
# Each says that the command was not executed, and that another connection may lead to who would.
ELSEWHERE = frozenset(
    {"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "UNBLOCKED", "LOADING", "NOAUTH"}
    | {"NOREPLICAS"}
)
_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.NoPermissionError, "NOPERM"),
    (exceptions.BusyLoadingError, "LOADING"),
    (exceptions.ReadOnlyError, "READONLY"),
    (exceptions.OutOfMemoryError, "OOM"),
    (exceptions.MasterDownError, "MASTERDOWN"),
    (exceptions.MovedError, "MOVED"),
    (exceptions.AskError, "ASK"),
    (exceptions.TryAgainError, "TRYAGAIN"),
    (exceptions.ClusterCrossSlotError, "CROSSSLOT"),
    (exceptions.ClusterDownError, "CLUSTERDOWN"),
)
_OTHERS = frozenset({"NOGROUP", "BUSYGROUP", "BUSYKEY", "NOSCRIPT", "EXECABORT"})
# What 6.2 says inside scripts instead of the code word.
_PHRASES = {
    "can't run this command": "NOPERM",
    "ACL failure in script": "NOPERM",
    "no permissions to": "NOPERM",
    "Authentication required": "NOAUTH",
    "invalid password": "WRONGPASS",
    "without any password configured": "WRONGPASS",
    "command not allowed when used memory": "OOM",
    "against a read only replica": "READONLY",
    "DB index is out of range": "NODB",
    "invalid DB index": "NODB",
    "SELECT is not allowed in cluster mode": "NODB",
    "unknown command": "NOCOMMAND",
    "Not enough good replicas": "NOREPLICAS",
}
_REFUSED = "connection refused: is the server running, and on this port?"
_ROUTE = "no route to the host: check its address, the network and firewalls"
_TIMEOUT = "no answer in time: is the server overloaded, or does a firewall drop packets?"
_CLOSED = "the connection was closed by the other side: did the server restart, or reach its maxclients?"
_NO_CERTIFICATE = "the server wants a client's certificate: ssl_certfile=FILE&ssl_keyfile=FILE in the URL"
# What Python 3.13 and later refuse by default (VERIFY_X509_STRICT), and many a self-made CA lacks.
_OLD_AUTHORITY = (
    "Python 3.13 and later want a CA that names its key's usage: make its certificate anew with the same key"
    " and name, openssl req -x509 -key CA.key -subj /CN=NAME -addext keyUsage=critical,keyCertSign,cRLSign"
    " -days 3650 -out CA.pem"
)
_BARE_CERTIFICATE = (
    "Python 3.13 and later want a certificate that names the key of its CA: sign the server's anew with"
    " authorityKeyIdentifier=keyid in the file that openssl x509 -req -extfile names"
)
_STRICT = {
    "authority key identifier": _BARE_CERTIFICATE,
    "subject key identifier": _OLD_AUTHORITY,
    "key usage": _OLD_AUTHORITY,
    "basic constraints": _OLD_AUTHORITY,
}
_NUMBERS = {
    errno.ECONNREFUSED: _REFUSED,
    errno.ENOENT: "there is no such socket: is the server running?",
    errno.EACCES: "no permission for the socket: run as a user who may use it",
    errno.EHOSTUNREACH: _ROUTE,
    errno.ENETUNREACH: _ROUTE,
    errno.ETIMEDOUT: _TIMEOUT,
    errno.ECONNRESET: _CLOSED,
    errno.EPIPE: _CLOSED,
}


class Place(Protocol):
    """Where the error came from: a `connection.Target`."""

    @property
    def redacted(self) -> str:
        """What a person may see of its URL."""


def code(error: BaseException | str) -> str | None:
    """The server's code word for an error or its text, such as `WRONGTYPE`; None if it is none we know."""
    for kind, word in _KINDS:
        if isinstance(error, kind):
            return word
    text = str(error)
    first = text.partition(" ")[0]
    if first in CODES:
        return first
    if first == "EXECABORT" and " because of: " in text:
        return code(text.partition(" because of: ")[2])
    if first in _OTHERS:
        return None  # what follows has names of keys in it, and they may be any words
    if found := re.search(rf"\b({'|'.join(CODES)})\b", text):
        return found[1]
    for phrase, word in _PHRASES.items():
        if phrase in text:
            return word
    return "WRONGPASS" if isinstance(error, exceptions.AuthenticationError) else None


def permanent(error: BaseException) -> bool:
    """Whether it is the configuration that is wrong, so that trying again does not help.

    With TLS: certificates that are refused, and a port that does not speak it. A host whose name is not known
    is none of these: its resolver may be later than we are.
    """
    return code(error) in PERMANENT or any(map(_is_tls_fault, _causes(error)))


def misplaced(error: BaseException, target: Place) -> bool:
    """Whether a URL of one address leads to a node of a cluster that will not serve this key."""
    return code(error) in ("MOVED", "CROSSSLOT") and "cluster://" not in target.redacted


def _is_tls_fault(error: BaseException) -> bool:
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    reason = str(getattr(error, "reason", None) or error).upper() if isinstance(error, ssl.SSLError) else ""
    return "CERTIFICATE_REQUIRED" in reason or "WRONG_VERSION_NUMBER" in reason


def elsewhere(error: BaseException | str) -> bool:
    """Whether an answer says that this connection leads to the wrong server, or to one that cannot work now.

    The command was not executed. Drop the connection, pause, and find the right server again: `wire` does so
    for workers and keepers, `connection` and `async_connection` for producers and commands.
    """
    return code(error) in ELSEWHERE


def explain(error: BaseException, target: Place | None) -> str:
    """One line for a person at 3 a.m.: what, on which server, what to do.

    Arguments:
        error: from redis-py, from hiredis or from the operating system.
        target: the server; None if it is not known.
    """
    where = f"Redis at {target.redacted}" if target else "Redis"
    where += "".join(f", {note}" for note in getattr(error, "__notes__", ()))
    said = " ".join(str(error).split()) or type(error).__name__
    if word := code(error):
        return f"{where}: {CODES[word]} ({said if word in said else f'{word}: {said}'})"
    for cause in _causes(error):
        if advice := _advice(cause):
            return f"{where}: {advice}{_tls_doubt(advice, target)}"
    return f"{where}: {said}"


def _tls_doubt(advice: str, target: Place | None) -> str:
    """What else it may be if TLS was wanted."""
    if target is None or not target.redacted.startswith("rediss"):
        return ""
    if advice is _TIMEOUT:
        return (
            " Or does it not speak TLS on this port?"  # it waits for the rest of what it takes for a command
        )
    if advice is _CLOSED and "ssl_certfile=" not in target.redacted:
        return f" Or {_NO_CERTIFICATE}"  # it says so, but the connection may be gone before that is read
    return ""


def _causes(error: BaseException | None) -> list[BaseException]:
    # redis-py wraps what the operating system said: the innermost error knows best.
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.insert(0, error)
        error = error.__cause__ or error.__context__
    return found


def _advice(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message or error.reason or ""
        usual = "name its CA in the URL with ssl_ca_certs=FILE, and the host as the certificate does"
        advice = next((told for lacking, told in _STRICT.items() if lacking in why.lower()), usual)
        return f"the server's certificate is refused: {why}; {advice}"
    if isinstance(error, ssl.SSLError) and "CERTIFICATE_REQUIRED" in str(error.reason or error).upper():
        return _NO_CERTIFICATE
    if isinstance(error, ssl.SSLEOFError):
        return _CLOSED
    if isinstance(error, ssl.SSLError):
        return f"no TLS: check rediss:// against redis://, and the certificates ({error.reason or error})"
    if isinstance(error, socket.gaierror):
        return f"unknown host: check the name and the resolver ({error.strerror})"
    if isinstance(error, (TimeoutError, exceptions.TimeoutError)):
        return _TIMEOUT
    if isinstance(error, OSError):
        return _NUMBERS.get(error.errno or 0)
    if isinstance(error, exceptions.ConnectionError) and re.search("closed by server|not ready", str(error)):
        return _CLOSED
    return None
