"""A child that a handler forked into a session of its own lives on after its worker was killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_slot_and_stream_are_free_of_it(make_pool: Callable[..., Pool]) -> None:
    """It holds neither the slot nor the worker's connection, in which a read still waits at the server.

    Otherwise the successor could not sit down, or entries would be delivered to nobody.
    """
    pool = make_pool("""
        def handle(message):
            started(message)
            if message.data["n"] == 5:
                pid = os.fork()
                if not pid:
                    os.setsid()
                    while True:
                        signal.pause()
                ledger().set("child", pid)
            finished(message)
        """)
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_finished(ids)
    pool.wait_settled()
    child = int(pool.books.get("child") or 0)
    try:
        until(lambda: waiting_reads(pool) == 1, "a read that waits")
        pool.wait_successor(pool.kill_worker())
        until(lambda: waiting_reads(pool) == 1, "a read of the successor that waits")
        os.kill(child, 0)
        ids += pool.push([{"n": 100}] * 20)
        pool.wait_finished(ids)
        pool.wait_settled()
    finally:
        os.kill(child, signal.SIGKILL)
    assert pool.stop() == 0
    pool.assert_exact(ids)


def waiting_reads(pool: Pool) -> int:
    """Return how many clients of the slot's name wait for entries."""
    clients = pool.redis.client_list()
    return sum(client["name"] == "test:0" and "b" in client["flags"] for client in clients)
