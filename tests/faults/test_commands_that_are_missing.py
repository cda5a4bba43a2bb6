"""The server does not have, or not allow, commands that nothing depends on: everything works without them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support_pool import Pool, numbers, until
from support_servers import Server

from rsq.streams import acl, keys
from rsq.streams.async_producer import AsyncProducer
from rsq.streams.producer import Producer
from rsq.supervisor.fleet import Fleet

pytestmark = pytest.mark.every_server

HANDLER = """
def handle(message):
    started(message)
    if message.data["n"] == 1 and message.attempt == 1:
        raise ValueError("once")
    finished(message)
"""
# The name of a connection; what wakes a keeper at once; what makes a consumer known before its first entry.
NICE = ("client|setname", "blpop", "xgroup|createconsumer", "ping")


def works(pool: Pool, url: str) -> None:
    """Let a pool, producers and an operator do what they do."""
    pool.start("--redis", url)
    ids = pool.push(numbers(5))
    with Producer(url, "events") as producer:
        ids.append(producer.push({"n": 5}))

    async def push() -> str:
        async with AsyncProducer(url, "events") as async_producer:
            return str(await async_producer.push({"n": 6}))

    ids.append(asyncio.run(push()))
    pool.wait_finished(ids)
    pool.wait_settled()
    with Fleet(url, "events", "workers") as fleet:
        fleet.pause("a test")
        until(lambda: pool.keep("PAUSED"), "the pause, seen with the next beat")
        fleet.resume()
        until(lambda: not pool.keep("PAUSED"), "the end of the pause")
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted={ids[1]: 2})


def test_without_client(own_server: Server, make_own_pool: Callable[..., Pool]) -> None:
    own_server.stop()
    renamed = own_server.directory / "renamed.conf"
    renamed.write_text('rename-command CLIENT ""\n')
    own_server.options["include"] = str(renamed)
    own_server.start()
    admin: Any = own_server.client()
    with pytest.raises(Exception, match="unknown command"):
        admin.execute_command("CLIENT", "ID")
    works(make_own_pool(HANDLER, "--lease", "3"), own_server.url)


def test_with_fewer_rights_than_the_least(own_server: Server, make_own_pool: Callable[..., Pool]) -> None:
    """A keeper that may not wait for a word does not ask for it again and again."""
    pool = make_own_pool(HANDLER, "--lease", "3")
    words = acl.words("little", "events", "workers", keys.dead_letter("events"))
    left = [word for word in words if word not in {f"+{command}" for command in NICE}]
    assert len(left) == len(words) - len(NICE)
    admin: Any = own_server.client()
    admin.execute_command(*left, ">secret")
    admin.execute_command("CONFIG", "RESETSTAT")
    works(pool, own_server.url.replace("unix://", "unix://little:secret@"))
    stats = admin.info("commandstats")
    asked = stats.get("cmdstat_blpop", {"rejected_calls": 0})["rejected_calls"]
    assert asked < 60, "a keeper asks once between two beats"
