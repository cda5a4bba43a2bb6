"""Somebody has written into keys that a pool keeps: other types, other words, numbers that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support_pool import Pool, numbers, until

from rsq.streams import keys
from rsq.supervisor.fleet import Fleet

OWN = ("events", "workers")
HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """
HASHES = [keys.instances(*OWN), keys.orders(*OWN), keys.swept(*OWN)]
LEASES = [keys.leader(*OWN), keys.lease(*OWN, "test")]
FAR = {
    "host": "h",
    "pid": 1,
    "version": "1",
    "started": 1,
    "beat": 1e999,
    "lease_s": 1e999,
    "slots": {"0": "busy"},
}
NUMBERS = [b"", b"x", b"-1", b"1e999", b"nan", b"9" * 30, b"9" * 5000, b"\xff", "٣".encode()]


def works(pool: Pool) -> list[str]:
    """Push some, and wait until they are done and the lease was renewed once more."""
    ids = pool.push(numbers(5))
    pool.wait_finished(ids)
    pool.wait_settled()
    until_renewed = pool.keep("UNTIL")
    until(lambda: pool.keep("UNTIL") > until_renewed, "another beat")
    return ids


def garble(pool: Pool, types: list[Callable[[str], Any]], names: list[str]) -> None:
    for number, name in enumerate(names):
        pool.redis.delete(name)
        types[number % len(types)](name)


@pytest.mark.every_server
def test_a_pool_that_works_goes_on(make_pool: Callable[..., Pool]) -> None:
    """Its orders, reports and counters are put right, or what is in them is nothing; it keeps its process."""
    pool = make_pool(HANDLER, "--lease", "10")
    pool.start()
    ids = works(pool)
    keeper = pool.keeper()
    redis: Any = pool.redis
    garble(pool, [lambda name: redis.set(name, "x"), lambda name: redis.rpush(name, "x")], HASHES)
    ids += works(pool)
    for number in NUMBERS:
        redis.hset(keys.orders(*OWN), "scale:test", number)
        redis.hset(keys.orders(*OWN), "scale:test", json.dumps({"workers": number.decode("latin-1")}))
        redis.hset(keys.swept(*OWN), mapping={"taken": number, "lost": number})
        redis.hset(keys.instances(*OWN), mapping={number: number, "far": json.dumps(FAR)})
        redis.rpush(keys.inbox(*OWN, "test"), number)
    redis.hset(keys.orders(*OWN), "scale:test", '{"workers": Infinity}')
    redis.hset(keys.epoch(*OWN), "a", "b") if redis.delete(keys.epoch(*OWN)) else None
    ids += works(pool)
    with Fleet(pool.server.url) as fleet:
        assert [one.name for one in fleet.status().living] == ["test"]
        fleet.pause().wait(60)
        fleet.resume()
    ids += works(pool)
    redis.delete(keys.swept(*OWN))  # the books of a test read it as numbers
    assert pool.keeper() == keeper
    assert pool.keep("ORDERED") == 0
    assert pool.stop() == 0, pool.log()
    pool.assert_exact(ids)


@pytest.mark.parametrize("epoch", ["list", "x", "-7", "9223372036854775807", "9007199254740993"])
def test_a_pool_that_starts_is_not_kept_waiting(make_pool: Callable[..., Pool], epoch: str) -> None:
    """Leases that never end, of another type, and a counter of epochs from which no lease could be given."""
    pool = make_pool(HANDLER, "--lease", "10")
    redis: Any = pool.redis
    if epoch == "list":
        garble(pool, [lambda name: redis.rpush(name, "x")], [*LEASES, keys.epoch(*OWN)])
    else:
        garble(pool, [lambda name: redis.set(name, "x"), lambda name: redis.set(name, b"\xff 1 ")], LEASES)
        redis.set(keys.epoch(*OWN), epoch)
    pool.start()
    ids = works(pool)
    term = pool.keep("TERM")
    until(lambda: pool.keep("LEADING"), "the lead")
    ids += works(pool)
    assert pool.keep("TERM") == term == 1, "the lease is held all the time"
    assert pool.stop() == 0, pool.log()
    pool.assert_exact(ids)
