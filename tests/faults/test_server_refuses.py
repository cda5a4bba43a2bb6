"""The server refuses the pool for good: a wrong password, or a key of the stream's name that is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from support_pool import Pool, numbers

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """
PASSWORD = "correct-horse"


@contextmanager
def password_wanted(pool: Pool) -> Iterator[None]:
    """Let the server ask new connections for a password."""
    pool.redis.config_set("requirepass", PASSWORD)
    try:
        yield
    finally:
        pool.redis.config_set("requirepass", "")


def test_a_wrong_password(make_pool: Callable[..., Pool]) -> None:
    """One line, exit code 78, nothing was read; no password is in it."""
    pool = make_pool(HANDLER)
    ids = pool.push(numbers(3))
    wrong = pool.server.url.replace("unix://", "unix://:wrong-horse@")
    with password_wanted(pool):
        for url, said in (
            (wrong, "user or password refused"),
            (pool.server.url, "the server wants a password"),
        ):
            code, output = pool.say("--redis", url, "app:handle")
            assert code == 78
            (line,) = output.splitlines()
            assert said in line
            assert "horse" not in output
    assert pool.redis.xinfo_groups("events") == []
    assert pool.run() == 0
    pool.assert_exact(ids)


def test_a_key_that_is_no_stream(make_pool: Callable[..., Pool]) -> None:
    """One line, exit code 78, and the key is as it was."""
    pool = make_pool(HANDLER)
    pool.redis.set("events", "a string")
    code, output = pool.say("app:handle")
    assert code == 78
    (line,) = output.splitlines()
    assert "a key of that name is not a stream" in line
    assert pool.redis.get("events") == b"a string"
