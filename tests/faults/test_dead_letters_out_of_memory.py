"""The server is out of memory and takes no dead letter nor anything else; and the worker is killed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until
from support_servers import Server

pytestmark = pytest.mark.every_server


def test_entries_stay_pending_until_there_is_room(
    make_own_pool: Callable[..., Pool], own_server: Server
) -> None:
    """What is in the stream is handled all the same; then each letter is written once."""
    pool = make_own_pool("""
        def handle(message):
            started(message)
            if message.data["n"] == 1:
                wait_for("full")
            if message.data["n"] % 10 == 3:
                raise Reject("never")
            finished(message)
            if message.data["n"] == 15:
                wait_for("killed")
        """)
    ids = pool.push(numbers(30))
    dead = dict.fromkeys(ids[3::10], 1)
    pool.start()
    pool.wait_started(ids[1])
    pool.redis.config_set("maxmemory", 1)
    pool.books.set("full", 1)
    pool.wait_log(f"entry {ids[3]} cannot be dead-lettered")
    pool.wait_finished([ids[15]])
    killed = pool.kill_worker()
    pool.wait_successor(killed)
    pool.books.set("killed", 1)
    pool.wait_finished(entry for entry in ids if entry not in dead)
    until(lambda: pool.pending() == len(dead), "the acknowledgement of all others")
    pool.redis.config_set("maxmemory", 0)
    pool.wait_settled()
    assert pool.stop() == 0
    assert pool.finished().pop(ids[15]) == 2
    pool.books.hset("ledger:finished", ids[15], 1)
    pool.assert_exact(ids, dead=dead, restarted={ids[15]: 2})
    assert {letter.reason for letter in pool.dead().values()} == {"rejected"}
