"""URLs: which are accepted, and that no secret of them is ever shown. Errors: what they are called."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions
from redis.connection import DefaultParser, SSLConnection

from rsq.streams import connection
from rsq.streams.trouble import misplaced
from rsq.streams.url import parse


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:s3cret@h:1/0", "redis://:***@h:1/0"),
        ("redis://user:s3cret@h", "redis://user:***@h"),
        ("redis://s3cret@h", "redis://***@h"),
        ("rediss://:s3%20cret@h", "rediss://:***@h"),
        ("redis://h/0?password=s3cret&db=1", "redis://h/0?password=***&db=1"),
        ("redis://h?p%61ssword=s3cret", "redis://h?p%61ssword=***"),
        ("rediss://h?ssl_password=s3cret", "rediss://h?ssl_password=***"),
        ("unix:///a@b.sock?db=0&password=s3cret", "unix:///a@b.sock?db=0&password=***"),
        ("unix://u:s3cret@/a.sock", "unix://u:***@/a.sock"),
        ("redis://[::1]:1/0?client_name=a@b", "redis://[::1]:1/0?client_name=a@b"),
        ("redis+sentinel://u:s3cret@a:1,b/main/3", "redis+sentinel://u:***@a:1,b/main/3"),
        ("redis+cluster://s3cret@a:1,b:2", "redis+cluster://***@a:1,b:2"),
        ("redis+cluster://a:1,b:2?client_name=a@b", "redis+cluster://a:1,b:2?client_name=a@b"),
        (
            "rediss+sentinel://a/main?sentinel_username=me&sentinel_password=s3cret",
            "rediss+sentinel://a/main?sentinel_username=me&sentinel_password=***",
        ),
    ],
)
def test_passwords_are_hidden(url: str, shown: str) -> None:
    found = connection.target(url)
    assert found.redacted == shown
    assert str(found) == repr(found) == shown
    assert found.url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://:p@s3cret/x@h/0",
        "redis://:p?s3cret@h/0",
        "redis://:p#s3cret@h/0",
        "redis://u:1?s3cret@h",
        ":s3cret@h:99",
        "redis:/:s3cret@h",
        "http://u:s3cret@h",
        "redis://:s3cret@h:port",
        "redis+sentinel://:s3cret@a,b",
        "redis+sentinel://:s3cret@a:x,b/main",
        "redis+sentinel://u:p@s3cret/x@a,b/main",
        "redis+sentinel://u:1,2?s3cret@a,b/main",
        "redis+sentinel://u:p#s3cret@a/main",
        "redis+cluster://u:s3cret@h1,h2/3",
        "redis+cluster://s3cret@h1:0",
        "redis+cluster://:s3cret@h1,,h2",
        "redis+cluster://:s3cret@h?colour=red",
        "redis+cluster://h?password=s3cret&db=2",
        "redis+sentinel://a/main?sentinel_password=s3cret&colour=red",
        "redis+sentinel://a/main?sentinel_p%61ssword=s3cret&colour=red",
        "rediss+nothing://u:s3cret@h",
        "REDIS+CLUSTER://u:s3cret@h",
    ],
)
def test_passwords_are_hidden_in_complaints_about_bad_urls(url: str) -> None:
    with pytest.raises(ValueError, match="Redis URL") as caught:
        connection.target(url)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


# Characters that a URL may hold as they are, or after percent-encoding.
_password = st.text(st.sampled_from("abc123%/?#@:[]&=ß "), min_size=1).map(lambda text: f"pw-{text}-pw")


_forms = st.sampled_from(
    [
        *("redis://:{}@h/0", "redis://user:{}@h:1", "rediss://:{}@h", ":{}@h:1"),
        *(
            "redis+sentinel://u:{}@a:1,b/main/0",
            "redis+cluster://:{}@a,[::1]:2",
            "rediss+cluster://:{}@a:1,b:2",
        ),
    ]
)


@given(_password, _forms)
def test_no_unencoded_password_is_shown(password: str, form: str) -> None:
    shown = connection.redact(form.format(password))
    assert "pw-" not in shown
    assert "-pw" not in shown


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "expected redis://"),
        ("localhost:6379", "expected redis://"),
        ("http://localhost", "expected redis://"),
        ("sentinel://h", "expected redis://"),
        ("redis+other://h", "expected redis://"),
        ("redis+sentinel:/h/main", "expected redis://"),
        ("redis+sentinel://a,b", "name of the primary is missing"),
        ("redis+sentinel://a,b/", "name of the primary is missing"),
        ("redis+sentinel://a,b//0", "name of the primary is missing"),
        ("redis+sentinel://a/main/x", "number of a database"),
        ("redis+sentinel://a/main/0/1", "number of a database"),
        ("redis+sentinel://a,,b/main", "host or port"),
        ("redis+sentinel:///main", "host or port"),
        ("redis+sentinel://a:b/main", "host or port"),
        ("redis+sentinel://a/main#x", "%23"),
        ("redis+sentinel://a/main?x", "has no value"),
        ("redis+sentinel://a/main?colour=red", "after the ?"),
        ("redis+cluster://a?sentinel_password=x", "after the ?"),
        ("redis+cluster://a:0,b", "port is 0"),
        ("redis+cluster://a:70000", "host or port"),
        ("redis+cluster://a,[::1", "host or port"),
        ("redis+cluster://a b,c", "host or port"),
        ("redis+cluster://a/1", "database 0 only"),
        ("redis+cluster://a?db=1", "database 0 only"),
        ("redis+cluster://a/main", "database 0 only"),
        ("rediss://h?ssl_ca_certs=/no/such/file", "ssl_ca_certs: the file cannot be read"),
        ("rediss+cluster://h?ssl_ca_certs=/dev/null", "no certificate in the file"),
        ("rediss://h?ssl_certfile=/dev/null", "ssl_certfile"),
        ("rediss://h?ssl_keyfile=/dev/null", "without ssl_certfile"),
        ("redis://h?ssl_ca_certs=/dev/null", "after the ?"),
        ("redis://h:port/0", "host or port"),
        ("redis://h:99999/0", "host or port"),
        ("redis://h:0", "port is 0"),
        ("redis://[::1/0", "host or port"),
        ("redis://h/orders", "number of a database"),
        ("redis://h/0/1", "number of a database"),
        ("redis://h/0#x", "%23"),
        ("redis://h?db=x", "after the ?"),
        ("redis://h?colour=red", "after the ?"),
        ("redis://h?db", "has no value"),
        ("unix://", "unix:///path"),
        ("embedded:", "embedded:DIR"),
        ("embeddedx", "expected redis://"),
    ],
)
def test_a_bad_url_is_one_clear_line(url: str, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:
        connection.target(url)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "way", "places", "service"),
    [
        ("redis+sentinel://a,b:1/main", "sentinel", (("a", 26379), ("b", 1)), "main"),
        ("redis+sentinel://u:p@[::1],[2::]:3/a%2Fb/2", "sentinel", (("::1", 26379), ("2::", 3)), "a/b"),
        ("redis+cluster://a", "cluster", (("a", 6379),), ""),
        ("rediss+cluster://:p@a:7000,b:7001/0?db=0", "cluster", (("a", 7000), ("b", 7001)), ""),
    ],
)  # fmt: skip
def test_urls_with_several_hosts(
    url: str, way: str, places: tuple[tuple[str, int], ...], service: str
) -> None:
    found = connection.target(url)
    assert (found.way, found.places, found.service, found.url) == (way, places, service, url)
    assert found.cluster is (way == "cluster")
    assert found.for_key("k").key == "k"
    assert str(found.for_key("k")) == found.redacted


def test_user_password_and_database_are_those_of_the_server_not_of_the_sentinels() -> None:
    url = (
        "rediss+sentinel://u:p%40@a,b/main/2?sentinel_username=s&sentinel_password=q%2B&ssl_check_hostname=no"
    )
    kind, settings, sentinel = parse(connection.target(url))
    assert kind is SSLConnection
    assert settings["username"] == "u"
    assert settings["password"] == "p@"
    assert settings["db"] == 2
    assert settings["ssl_check_hostname"] is False
    assert sentinel == {"username": "s", "password": "q+"}
    assert not any("sentinel" in name for name in settings)


def test_embedded_is_a_unix_socket_in_its_directory(tmp_path: Path) -> None:
    found = connection.target(f"embedded:{tmp_path}")
    assert found.data == tmp_path
    assert found.url == f"unix://{tmp_path}/redis.sock?db=0"
    assert found.redacted == f"embedded:{tmp_path}"


@pytest.mark.parametrize(
    ("line", "word", "final"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", "WRONGPASS", True),
        ("ERR invalid password", "WRONGPASS", True),
        ("NOAUTH Authentication required.", "NOAUTH", True),
        ("NOPERM this user has no permissions to run the 'xadd' command", "NOPERM", True),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "WRONGTYPE", True),
        ("ERR Error running script (call to f_a): @user_script:1: WRONGTYPE Operation", "WRONGTYPE", True),
        ("ERR ACL failure in script: User x has no permissions to run the 'xadd' command", "NOPERM", True),
        ("LOADING Redis is loading the dataset in memory", "LOADING", False),
        ("READONLY You can't write against a read only replica.", "READONLY", False),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS", False),
        ("EXECABORT Transaction discarded because of: READONLY You can't write", "READONLY", False),
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM", False),
        ("MISCONF Redis is configured to save RDB snapshots, but", "MISCONF", False),
        ("MASTERDOWN Link with MASTER is down", "MASTERDOWN", False),
        ("MOVED 3999 127.0.0.1:6381", "MOVED", False),
        ("ASK 3999 127.0.0.1:6381", "ASK", False),
        ("TRYAGAIN Multiple keys request during rehashing of slot", "TRYAGAIN", False),
        ("CROSSSLOT Keys in request don't hash to the same slot", "CROSSSLOT", False),
        ("CLUSTERDOWN The cluster is down", "CLUSTERDOWN", False),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", "UNBLOCKED", False),
        ("NOGROUP No such key 'ASK' or consumer group 'OOM'", None, False),
        ("ERR unknown command 'XADD'", "NOCOMMAND", True),
        ("ERR DB index is out of range", "NODB", True),
        ("ERR SELECT is not allowed in cluster mode", "NODB", True),
        ("DENIED Redis is running in protected mode because protected mode is enabled", "DENIED", True),
    ],
)
def test_errors_of_the_server_are_recognised(line: str, word: str | None, final: bool) -> None:
    parse: Callable[[str], Exception] = DefaultParser.parse_error
    for error in (parse(line), hiredis.ReplyError(line)):
        told = connection.explain(error, connection.target("redis://:s3cret@h:1/0"))
        assert told.startswith("Redis at redis://:***@h:1/0: ")
        assert "\n" not in told
        assert word is None or word in told
        assert connection.permanent(error) is final


def test_an_error_without_a_target_or_words_is_explained_too() -> None:
    assert connection.explain(exceptions.RedisError(), None) == "Redis: RedisError"


def test_a_closed_connection_is_explained() -> None:
    error = exceptions.ConnectionError("Connection closed by server.")  # redis-py's own words: no OSError
    assert "closed by the other side" in connection.explain(error, None)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("MOVED 3999 127.0.0.1:6381", True),
        ("ASK 3999 127.0.0.1:6381", True),
        ("TRYAGAIN Multiple keys request during rehashing of slot", True),
        ("READONLY You can't write against a read only replica.", True),
        ("CLUSTERDOWN Hash slot not served", True),
        ("MASTERDOWN Link with MASTER is down", True),
        ("LOADING Redis is loading the dataset in memory", True),
        ("NOAUTH Authentication required.", True),
        ("UNBLOCKED force unblock from blocking operation, instance state changed", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("EXECABORT Transaction discarded because of: READONLY You can't write", True),
        ("OOM command not allowed when used memory > 'maxmemory'.", False),
        ("NOGROUP No such key 'MOVED' or consumer group 'ASK'", False),
        ("CROSSSLOT Keys in request don't hash to the same slot", False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
        ("ERR unknown command", False),
    ],
)
def test_some_answers_say_that_the_server_is_the_wrong_one(line: str, wrong: bool) -> None:
    parse: Callable[[str], Exception] = DefaultParser.parse_error
    assert connection.elsewhere(line) is wrong
    assert connection.elsewhere(hiredis.ReplyError(line)) is wrong
    assert connection.elsewhere(parse(line)) is wrong


def test_a_node_of_a_cluster_that_will_not_serve_the_stream_is_a_wrong_url() -> None:
    moved = exceptions.ResponseError("MOVED 3999 127.0.0.1:6381")
    assert misplaced(moved, connection.target("redis://h:1/0"))
    assert not misplaced(moved, connection.target("redis+cluster://h:1"))
    assert not misplaced(exceptions.ReadOnlyError("READONLY"), connection.target("redis://h:1/0"))


def test_a_certificate_that_is_refused_is_a_wrong_configuration() -> None:
    error = exceptions.ConnectionError("Error 1")
    error.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
    assert connection.permanent(error)
    error.__cause__ = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
    assert not connection.permanent(error)
