"""URLs: which are accepted, and that no secret of them is ever shown. Errors: what they are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import exceptions
from redis.connection import DefaultParser

from rsq.streams import connection


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
        "redis+sentinel://:s3cret@a,b/x",
    ],
)
def test_passwords_are_hidden_in_complaints_about_bad_urls(url: str) -> None:
    with pytest.raises(ValueError, match="Redis URL") as caught:
        connection.target(url)
    assert "s3cret" not in str(caught.value)
    assert "\n" not in str(caught.value)


# Characters that a URL may hold as they are, or after percent-encoding.
_password = st.text(st.sampled_from("abc123%/?#@:[]&=ß "), min_size=1).map(lambda text: f"pw-{text}-pw")


@given(_password, st.sampled_from(["redis://:{}@h/0", "redis://user:{}@h:1", "rediss://:{}@h", ":{}@h:1"]))
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
        ("redis+sentinel://a,b/name", "not supported yet"),
        ("redis+cluster://h", "not supported yet"),
        ("sentinel://h", "not supported yet"),
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
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM", False),
        ("MISCONF Redis is configured to save RDB snapshots, but", "MISCONF", False),
        ("MASTERDOWN Link with MASTER is down", "MASTERDOWN", False),
        ("MOVED 3999 127.0.0.1:6381", "MOVED", False),
        ("ERR unknown command 'XADD'", None, False),
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
