"""URLs: which servers they name, what is wrong with them, and what of them a person may see.

redis://[user:pass@]host:6379/0?options       one server; rediss:// is TLS
unix:///path?db=0                             the same over a socket
embedded, embedded:DIR                        a server that the pool starts itself
redis+sentinel://h1:26379,h2/service/0        the primary that sentinels name; rediss+sentinel:// is TLS
redis+cluster://h1:7000,h2                    a Redis Cluster; rediss+cluster:// is TLS
"""

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, unquote_plus, urlsplit

from redis.connection import Connection, parse_url
from redis.exceptions import RedisError

from . import embedded

SCHEMES = ("redis", "rediss", "unix")
HIDDEN = "***"
# Settings of redis-py that a URL may carry, but that are ours to decide; the last two belong to its pools.
OURS = {"protocol", "decode_responses", "client_name", "socket_timeout", "socket_connect_timeout"}
OURS |= {"retry", "retry_on_error", "retry_on_timeout", "health_check_interval", "max_connections", "timeout"}
_EXPECTED = (
    "expected redis://, rediss://, unix://, redis+sentinel://, redis+cluster://, embedded or embedded:DIR"
)
_ENCODE = "these characters of a password must be percent-encoded: / ? # @ : [ ] %"
_MANY = re.compile(
    r"(?P<scheme>rediss?)\+(?P<way>sentinel|cluster)://"
    r"(?:(?P<user>[^/?#@]*)@)?(?P<hosts>[^/?#@]*)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?"
)
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:,\s]+))(?::(?P<port>\d{1,5}))?")
_PORTS = {"sentinel": 26379, "cluster": 6379}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, repr=False)
class Target:
    """A server that can be connected to.

    Attributes:
        url: as it was given, secrets included: never print it.
        redacted: what a person may see.
        data: data directory of the embedded server, None for a server that is not ours to start.
        way: whether the address in the URL is the server itself, or has to be asked for the server.
        places: (host, port) of the sentinels, or of some nodes of the cluster, in the order of the URL.
        service: what the sentinels call the primary.
        key: on a cluster, the key whose node is meant; see `for_key`.
    """

    url: str
    redacted: str
    data: Path | None = None
    way: Literal["direct", "sentinel", "cluster"] = "direct"
    places: tuple[tuple[str, int], ...] = ()
    service: str = ""
    key: str = ""

    def __repr__(self) -> str:
        return self.redacted

    def for_key(self, key: str) -> "Target":
        """The target as those see it who use one key, and others in its hash slot: the node that owns it."""
        return replace(self, key=key)

    @property
    def cluster(self) -> bool:
        """Whether it is a Redis Cluster, where keys that belong together must share a hash slot."""
        return self.way == "cluster"


def target(url: str) -> Target:
    """The server that a URL names.

    Arguments:
        url: in one of the forms that the module lists.

    Raises:
        ValueError: one line about what is wrong with the URL; it never shows a password.
    """
    if url == "embedded" or url.startswith("embedded:"):
        data = embedded.directory(url)
        return Target(f"unix://{quote(str(embedded.socket_path(data)))}?db=0", f"embedded:{data}", data)
    if re.match(r"rediss?\+", url):
        try:
            return _many(url)
        except ValueError as error:
            raise ValueError(f"Redis URL {redact(url)}: {error}") from None
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
    if "@" in query and not (_ports_are_numbers(place) and _is_query(query)):
        place, question, query = rest, "", ""  # the `?` is part of a password
    if "@" in place and not place.startswith("/"):
        userinfo, _, host = place.rpartition("@")
        user, colon, _ = userinfo.partition(":")
        place = f"{user}:{HIDDEN}@{host}" if colon else f"{HIDDEN}@{host}"
    pairs = [_redact_pair(pair) for pair in query.split("&")]
    return f"{scheme}{separator}{place}{question}{'&'.join(pairs)}"


def place(target: Target) -> str:
    """Where the server is, without who asks and how: what a pool cannot change while it runs."""
    if target.data is not None:
        return target.redacted
    _, settings, _ = parse(target)
    database = settings.get("db", 0)
    if target.way == "direct":
        where = settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
        return f"{where}/{database}"
    hosts = ",".join(f"{host}:{port}" for host, port in sorted(target.places))
    return f"{target.way} {hosts}/{target.service}/{database}"


def parse(target: Target) -> tuple[Any, dict[str, Any], dict[str, str]]:
    """What redis-py needs to know for a connection.

    Returns:
        The class of the connection, its settings without those that are ours (host and port are the first
        of `places` where there are several), and user and password of the sentinels.
    """
    if target.way == "direct":
        return *_parse(target.url), {}
    node, sentinel = _node_url(target.url)
    return *_parse(node), sentinel


def _many(url: str) -> Target:
    """The target of a URL with several hosts.

    Raises:
        ValueError: what is wrong, without the URL.
    """
    found = _MANY.fullmatch(url)
    if not found:
        if not _MANY.match(url):
            raise ValueError(_EXPECTED)
        raise ValueError(f"bad host or port, or a # that must be written %23; {_ENCODE}")
    way: Any = found["way"]
    places = tuple(_place(host, _PORTS[way]) for host in found["hosts"].split(","))
    path = [unquote(part) for part in (found["path"] or "/")[1:].split("/")]
    service = path.pop(0) if way == "sentinel" else ""
    if way == "sentinel" and not service:
        raise ValueError("the sentinels' name of the primary is missing: redis+sentinel://h1,h2/SERVICE/0")
    if way == "cluster" and path not in ([""], ["0"]):
        raise ValueError("a cluster has the database 0 only: redis+cluster://h1,h2")
    if len(path) > 1 or not all(re.fullmatch(r"[0-9]*", part) for part in path):
        raise ValueError("after the service comes the number of a database, as in /mymaster/0")
    node, _ = _node_url(url)
    if fault := _fault(node):
        raise ValueError(fault)
    database = _parse(node)[1].get("db", 0)
    if way == "cluster" and database:
        raise ValueError("a cluster has the database 0 only: redis+cluster://h1,h2")
    return Target(url, redact(url), None, way, places, service)


def _place(host: str, port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(host)
    if not found:
        raise ValueError(f"bad host or port; {_ENCODE}")
    number = int(found["port"]) if found["port"] else port
    if not 0 < number < 65536:
        raise ValueError("the port is 0" if not number else "bad host or port: ports end at 65535")
    return found["six"] or unquote(found["name"]), number


def _node_url(url: str) -> tuple[str, dict[str, str]]:
    """The URL of the first host as if it were the server; user and password of the sentinels."""
    found = _MANY.fullmatch(url)
    assert found is not None
    user = f"{found['user']}@" if found["user"] is not None else ""
    path = (found["path"] or "").split("/")[2:] if found["way"] == "sentinel" else []
    plain, sentinel = [], {}
    for pair in (found["query"] or "").split("&"):
        name, _, value = pair.partition("=")
        if found["way"] == "sentinel" and name in ("sentinel_username", "sentinel_password"):
            sentinel[name.removeprefix("sentinel_")] = unquote_plus(value)
        elif pair:
            plain.append(pair)
    query = f"?{'&'.join(plain)}" if plain else ""
    host = found["hosts"].split(",")[0]
    return f"{found['scheme']}://{user}{host}/{path[0] if path else ''}{query}", sentinel


def _parse(url: str) -> tuple[Any, dict[str, Any]]:
    """The class of connection that a URL asks for, and its settings without those that are ours."""
    parse: Callable[[str], dict[str, Any]] = parse_url
    given = parse(url)
    kind = given.pop("connection_class", Connection)
    return kind, {key: value for key, value in given.items() if key not in OURS}


def _fault(url: str) -> str | None:
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in SCHEMES:
        return _EXPECTED
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"bad host or port; {_ENCODE}"
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
    return _tls_fault(settings)


def _tls_fault(settings: dict[str, Any]) -> str | None:
    """What is wrong with the certificates that are given; a missing file is known before anything starts."""
    given = [name for name in _TLS_FILES if name in settings]
    if not given:
        return None
    for name in given:
        try:
            with Path(settings[name]).open("rb"):
                pass
        except (OSError, ValueError) as error:
            return f"{name}: the file cannot be read: {getattr(error, 'strerror', None) or error}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca, own, key = (settings.get(name) for name in _TLS_FILES)
    if ca:
        try:
            context.load_verify_locations(ca)
        except (OSError, ValueError):
            return "ssl_ca_certs: there is no certificate in the file (it must be PEM)"
    if key and not own:
        return "ssl_keyfile is given without ssl_certfile"
    if own:
        try:
            # A key that wants a password must not ask for it at a terminal.
            context.load_cert_chain(own, key, settings.get("ssl_password", ""))
        except (OSError, ValueError):
            return (
                "ssl_certfile, ssl_keyfile: no certificate (PEM) with the key that belongs to it,"
                " or the key's ssl_password is wrong"
            )
    return None


def _ports_are_numbers(place: str) -> bool:
    hosts = place.rpartition("@")[2].partition("/")[0].split(",")
    return all(re.fullmatch(r"(\[[^]]*\]|[^:]*)(:\d*)?", host) for host in hosts)


def _is_query(query: str) -> bool:
    option = r"(db|username|password|protocol|timeout|[a-z]+(_[a-z]+)+)=.*"
    return all(re.fullmatch(option, unquote_plus(pair)) for pair in query.split("&"))


def _redact_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    secret = any(word in unquote_plus(name).lower() for word in ("pass", "secret", "token", "key_data"))
    return f"{name}={HIDDEN}" if equals and secret else pair
