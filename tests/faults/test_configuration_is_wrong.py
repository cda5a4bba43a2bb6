"""Options, settings files and handlers that cannot be right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support_pool import Pool, numbers

HANDLER = """
    import threading
    def handle(message):
        started(message)
        finished(message)
    def too_many(message, database): pass
    value = 3
    """
# What is added to the command line -> what the one line says.
WRONG: dict[tuple[str, ...], str] = {
    ("--wokers", "3"): "No such option '--wokers'",
    ("--workers", "many"): "a range such as 2-16, not 'many'",
    ("--redis", "http://localhost"): "Redis URL http://localhost: expected redis://",
    ("--redis", "redis://:s3cret@host:port/0"): "bad host or port",
    ("--redis-file", "none"): "--redis and --redis-file are both given",
    ("--config", "unknown.toml"): "there is no setting 'wokers'",
    ("--config", "torn.toml"): "torn.toml is not TOML",
    ("--config", "list.toml"): "workers must be a single value",
    ("--config", "none.toml"): "none.toml cannot be read",
    ("--serializer", "pickle"): "--allow-pickle",
    ("--serializer", "yaml"): "yaml",
    ("--envelope", "letter"): "'letter' is not one of",
    ("--once", "soon"): "--once: 'soon' is no duration: write for example",
    ("--start-id", "tomorrow"): "--start-id",
    ("--dlq", "events"): "is the stream itself",
    ("--metrics", "nowhere"): "nowhere",
    ("--soft-timeout", "10", "--timeout", "5"): "--soft-timeout must be shorter",
    ("app:none",): "there is no 'none' in app",
    ("app:value",): "app:value is of type int, not a function",
    ("app:too_many",): "app:too_many must take one argument, the message",
    ("nowhere:handle",): "there is no module 'nowhere'",
    ("app",): "write MODULE:FUNCTION",
    ("app:handle", "more"): "unexpected extra argument",
}


def test_one_line_says_what_and_nothing_is_read(make_pool: Callable[..., Pool]) -> None:
    """Exit code 78, so that a service manager does not try again; not even the group is made."""
    pool = make_pool(HANDLER)
    ids = pool.push(numbers(3))
    (pool.folder / "unknown.toml").write_text("wokers = 3")
    (pool.folder / "torn.toml").write_text("workers = ")
    (pool.folder / "list.toml").write_text("workers = [1, 2]")
    for words, said in WRONG.items():
        handler = () if "app" in words[0] or ":handle" in words[0] else ("app:handle",)
        code, output = pool.say(*words, *handler)
        assert code == 78, (words, output)
        (line,) = output.splitlines()
        assert line.startswith("rsq-supervisor: error: ")
        assert said in line
        assert "s3cret" not in output
    assert pool.redis.xinfo_groups("events") == []
    assert pool.run() == 0
    pool.assert_exact(ids)


def test_what_the_server_will_never_accept(make_pool: Callable[..., Pool]) -> None:
    """It is not tried again: the same exit code."""
    pool = make_pool(HANDLER)
    host = pool.server.tcp_url.rpartition("/")[0]
    user = host.replace("://", "://narrow:p@")
    words = ("reset", "on", ">p", "~*", "&*", "+@all", "-select")
    admin: Any = pool.redis
    admin.execute_command("ACL", "SETUSER", "narrow", *words)
    try:
        for url, said in {
            f"{host}/99": "the server has no such database",
            f"{user}/1": "the server does not allow it to this user",
            f"{host.replace('://', '://narrow:wrong@')}/0": "user or password refused",
        }.items():
            code, output = pool.say("--redis", url, "app:handle")
            assert code == 78, (url, output)
            assert said in output.splitlines()[-1]
    finally:
        admin.execute_command("ACL", "DELUSER", "narrow")


def test_a_handler_that_only_workers_import(make_pool: Callable[..., Pool]) -> None:
    """With --no-preload the first worker finds out; the pool ends with the same exit code."""
    pool = make_pool(HANDLER, "--no-preload", "--workers", "2")
    ids = pool.push(numbers(3))
    code, output = pool.say("nowhere:handle")
    assert code == 78
    assert "there is no module 'nowhere'" in output
    assert "Traceback" not in output
    assert pool.redis.xinfo_groups("events") == []
    assert pool.run() == 0
    pool.assert_exact(ids)
