"""The pool logs in as a user who may do nothing but what `rsq acl` grants."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import redis
from support_pool import Pool, numbers, until
from support_servers import Server

# Names full of characters that mean something in a pattern or to redis-cli.
STREAM, GROUP, USER = "events", "work*[er]s 'x'", "little"


def granted(stream: str, group: str) -> list[str]:
    """The words of the line, as redis-cli would read it."""
    words = ["acl", "--stream", stream, "--group", group, "--user", USER]
    command = [sys.executable, "-m", "rsq.supervisor.operate", *words]
    line = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    (only,) = line.decode().splitlines()
    return unquoted(only)


def unquoted(line: str) -> list[str]:
    found, word, quoted, escaped = [], "", False, False
    for char in line:
        if escaped:
            word, escaped = word + char, False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == " " and not quoted:
            found.append(word)
            word = ""
        else:
            word += char
    return [*found, word]


def login(server: Server) -> str:
    """The URL of the server for the user, who is made by it."""
    admin: Any = server.client()
    assert admin.execute_command(*granted("events", "workers"))
    admin.execute_command("ACL", "SETUSER", USER, ">secret")
    return server.url.replace("unix://", f"unix://{USER}:secret@")


def test_a_pool_can_do_all_it_has_to(own_server: Server, make_own_pool: Callable[..., Pool]) -> None:
    """Handling, a retry, a crash, a dead letter, a lost group, a drain: nothing of it was ever denied."""
    pool = make_own_pool(
        """
        def handle(message):
            started(message)
            n = message.data["n"]
            if n == 1 and message.attempt == 1:
                raise ValueError("once")
            if n == 2:
                raise Reject("never")
            if n == 3 and message.attempt == 1:
                segfault()
            finished(message)
        """,
        "--block-ms", "100",
    )  # fmt: skip
    url = login(own_server)
    ids = pool.push(numbers(10))
    pool.start("--redis", url)
    pool.wait_finished([entry for entry in ids if entry != ids[2]])
    until(pool.dead, "a dead letter")
    pool.wait_settled()
    pool.redis.xtrim("events", maxlen=0, approximate=False)  # a new group would begin there again
    pool.redis.xgroup_destroy("events", "workers")
    until(lambda: pool.redis.xinfo_groups("events"), "the group, made again by the pool")
    more = pool.push(numbers(1))
    pool.wait_finished(more)
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.redis.acl_log() == []
    pool.assert_exact([*ids, *more], dead={ids[2]: 1}, restarted={ids[1]: 2, ids[3]: 2})


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("KEYS", "*"),
        ("CONFIG", "GET", "*"),
        ("SHUTDOWN",),
        ("GET", "other"),
        ("XADD", "events2", "*", "a", "b"),
        ("XADD", "event", "*", "a", "b"),
        ("GET", "rsq:{events}:workers2:leader"),
        ("GET", "rsq:{events2}:workers:leader"),
        ("EVAL", "return redis.call('GET', KEYS[1])", "1", "other"),
        ("EVAL", "return redis.call('FLUSHALL')", "0"),
        ("XGROUP", "DESTROY", "events", "workers"),
        ("CLIENT", "LIST"),
        ("ACL", "WHOAMI"),
    ],
    ids=" ".join,
)
def test_everything_else_is_denied(server: Server, command: tuple[str, ...]) -> None:
    login(server)
    with redis.Redis.from_url(server.url, username=USER, password="secret", protocol=2) as user:
        assert user.xlen("events") == user.exists("events", "events:dlq") == 0
        assert user.role()[0] == b"master"  # so it is found behind sentinels, too
        assert user.get("rsq:{events}:workers:leader") is None
        with pytest.raises(redis.ResponseError, match=r"(?i)permission|ACL failure|can't run|can't access"):
            user.execute_command(*command)


def test_names_are_taken_literally(server: Server) -> None:
    """`*` in a name is no wildcard in the rights; only for a space the server knows no other way."""
    admin: Any = server.client()
    assert admin.execute_command(*granted(STREAM, GROUP))
    admin.execute_command("ACL", "SETUSER", USER, "nopass")
    with redis.Redis.from_url(server.url, username=USER, password="any", protocol=2) as user:
        assert user.get(f"rsq:{{events}}:{GROUP}:leader") is None
        for group in ("workers 'x'", "work*es 'x'", "workXXe] 'x'", "work*r 'x'"):
            with pytest.raises(redis.ResponseError):
                user.get(f"rsq:{{events}}:{group}:leader")
