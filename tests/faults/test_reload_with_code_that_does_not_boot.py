"""SIGHUP with new code that imports but whose workers die before they have booted."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers

GOOD = """
    def handle(message):
        started(message)
        finished(message)
    """
BAD = """
    def worker_start(): raise ConnectionError("no database")
    def handle(message): pass
    """


def test_one_slot_tries_and_the_others_go_on(make_pool: Callable[..., Pool]) -> None:
    """Until a further reload brings better code: then all slots take that."""
    pool = make_pool(GOOD, "--workers", "3")
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_finished(ids)
    old = pool.seats()
    pool.write(BAD)
    pool.signal(signal.SIGHUP)
    pool.wait_log("ConnectionError: no database", times=2)
    ids += pool.push(numbers(10))
    pool.wait_finished(ids)
    seats = pool.seats()
    assert [seats[slot] for slot in (1, 2)] == [old[slot] for slot in (1, 2)]
    pool.write(GOOD)
    pool.signal(signal.SIGHUP)
    pool.wait_log("reloaded: every slot runs the new code")
    assert not {*old.values()} & {*pool.seats().values()}
    ids += pool.push(numbers(10))
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
