"""The pool logs in as a user who may do nothing but what `rsq acl` grants."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from support_pool import Pool, numbers, until
from support_servers import Server

from rsq.streams import acl, keys
from rsq.streams.fleet import Report
from rsq.streams.producer import Producer

pytestmark = pytest.mark.every_server

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
        "--block-ms", "100", "--once", "1h",
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


def test_a_fleet_and_those_who_operate_it_can_do_all_they_have_to(
    own_server: Server, make_own_pool: Callable[..., Pool]
) -> None:
    """Sweeping up after a lost host, trimming, tidying, every command of `rsq`: nothing of it was denied."""
    pool = make_own_pool(
        """
        def handle(message):
            started(message)
            finished(message)
        """,
        "--block-ms", "100", "--lease", "3", "--consumer-ttl", "1", "--trim", "acked", "--max-attempts", "2",
    )  # fmt: skip
    url = login(own_server)
    client: Any = pool.redis
    client.xgroup_create("events", "workers", "0", mkstream=True)
    report = Report("lost.example.org", 1, "1", 0.0, 0.0, 1.0, {0: "busy"})
    client.hset(keys.instances("events", "workers"), "lost", report.encode())
    ids = pool.push(numbers(30))
    client.xreadgroup("workers", "lost:0", {"events": ">"}, 20)
    client.xclaim("events", "workers", "lost:0", 0, ids[:5], retrycount=2, justid=True)  # used up
    client.xdel("events", ids[19])
    pool.start("--redis", url)
    pool.wait_finished(ids[5:19] + ids[20:])
    until(lambda: len(pool.dead()) == 5, "the dead letters")
    until(lambda: "lost:0" not in pool.consumers(), "the removal of a consumer")
    until(lambda: client.xlen("events") <= 1, "trimming")
    swept = {name.decode(): int(n) for name, n in client.hgetall(keys.swept("events", "workers")).items()}
    trimmed = swept.pop("trimmed")
    assert swept == {"taken": 14, "suspects": 14, "buried": 5, "lost": 1, "removed": 1}
    assert trimmed >= 28
    for words in (
        "status --group workers", "check", "pending", "pause --wait", "resume --wait", "dlq list",
        "dlq replay --all", "drain test --wait",
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "rsq.supervisor.operate", *words.split(), "--redis", url],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"rsq {words}: {done.stdout}"
    assert pool.wait() == 0
    assert client.acl_log() == []


def test_a_pool_with_a_breaker(own_server: Server, make_own_pool: Callable[..., Pool]) -> None:
    """It opens, one entry is tried, it closes; and it is looked at and turned by hand."""
    pool = make_own_pool(
        """
        from rsq import Breaker, Router
        handle = Router()
        @handle.on("mail", breaker=Breaker(2, "1m", "100ms"))
        def mail(message):
            started(message)
            if ledger().exists("down"):
                raise ConnectionError("down")
            finished(message)
        """,
        "--max-attempts", "100",
    )  # fmt: skip
    url = login(own_server)
    pool.books.set("down", 1)
    ids = pool.push(numbers(5), "mail")
    pool.start("--redis", url)
    pool.wait_log("circuit breaker of mail is open: a probe has failed")
    pool.books.delete("down")
    pool.wait_finished(ids)
    pool.wait_settled()
    for words in ("breaker list --json", "breaker open mail", "breaker close mail", "status --group workers"):
        done = subprocess.run(
            [sys.executable, "-m", "rsq.supervisor.operate", *words.split(), "--redis", url],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, f"rsq {words}: {done.stdout}"
        assert "mail" in done.stdout or words.startswith("status")
    assert pool.stop() == 0
    client: Any = pool.redis
    assert client.acl_log() == []


def test_a_producer_can_do_all_it_has_to(server: Server) -> None:
    admin: Any = server.client()
    admin.acl_log_reset()
    url = login(server)
    with Producer(url, maxlen=10, on_full="reject") as limited, Producer(url) as plain:
        assert limited.ensure_group("workers")
        assert limited.push(1, key="k", unique="1h") == limited.push(1, key="k", unique="1h")
        assert plain.push_many([1, 2]) == plain.push_many([3, 4]) == 2
    assert admin.acl_log() == []


def test_no_command_of_ours_is_missing_from_the_rights() -> None:
    """Neither of what scripts call nor of what is packed: what is rare is not denied on its one day."""
    folder = Path(acl.__file__).parent
    called = [
        found
        for script in folder.joinpath("scripts").glob("*.lua")
        for found in re.findall(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?", script.read_text())
    ]
    packed = [
        found
        for module in folder.glob("*.py")
        for found in re.findall(r'pack\(\s*"([A-Z]+)"(?:, "([A-Z]+)")?', module.read_text())
    ]
    assert len(called) > 20
    assert len(packed) > 10
    allowed = {*acl.POOL, *acl.CONNECTION}
    for command, more in {*called, *packed}:
        name = f"{command}|{more}" if command in ("XGROUP", "XINFO") else command
        assert name.lower() in allowed, f"{name} is used, and not granted"


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
        ("GET", "rsq.push:7:{events2}:unique:k"),
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
