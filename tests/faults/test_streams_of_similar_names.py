"""Two streams, or two groups, whose keys could be read as those of each other, under one instance name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_pool import Pool, until

from rsq.streams import keys
from rsq.streams.fleet import Report
from rsq.supervisor.fleet import Fleet

HANDLER = """
    def handle(message):
        ledger().hincrby("ran", f"{message.stream} {message.data}", 1)
    """


def ran(pool: Pool) -> dict[str, int]:
    return pool.hash("ran")


@pytest.mark.parametrize(
    ("one", "two"),
    [(("events", "workers"), ("{events}", "workers")), (("{events}:a", "b"), ("events", "a:b"))],
)
def test_they_share_nothing(
    make_pool: Callable[..., Pool], tmp_path: Path, one: tuple[str, str], two: tuple[str, str]
) -> None:
    """Neither --once, nor a pause, nor an order to drain, nor the lead of one is seen by the other."""
    pools: list[Pool] = []
    for stream, group in (one, two):
        pool = make_pool(HANDLER, "--once", "1h", "--lease", "10", "--stream", stream, "--group", group)
        pool.stream = stream
        pool.options[pool.options.index("--runtime-dir") + 1] = str(tmp_path / f"run-{len(pools)}")
        pools.append(pool)
    first, second = pools

    def add(pool: Pool, data: int, key: str) -> None:
        pool.redis.xadd(pool.stream, {"data": json.dumps(data), "key": key})

    add(first, 1, "k")
    add(second, 2, "k")
    for pool in pools:
        pool.start()
    until(lambda: ran(first) == {f"{one[0]} 1": 1, f"{two[0]} 2": 1}, "both entries")
    fleets = [Fleet(first.server.url, *names) for names in (one, two)]
    until(lambda: all(fleet.status().leader for fleet in fleets), "a leader of each")
    for fleet in fleets:
        assert [seen.name for seen in fleet.status().living] == ["test"]
    fleets[0].pause(reason="a test").wait(60)
    assert fleets[1].status().pause is None
    add(first, 3, "k3")
    add(second, 4, "k4")
    until(lambda: ran(second).get(f"{two[0]} 4"), "the entry of the stream that is not paused")
    assert f"{one[0]} 3" not in ran(first)
    fleets[1].drain("test")
    assert second.wait() == 0
    assert first.process is not None
    assert first.process.poll() is None
    fleets[0].resume()
    until(lambda: ran(first).get(f"{one[0]} 3"), "the entry after the pause")
    assert first.stop() == 0, first.log()
    for fleet in fleets:
        fleet.close()


def test_a_pool_waits_for_pools_of_a_version_with_other_names(make_pool: Callable[..., Pool]) -> None:
    """They do not see each other's leases. A service manager starts it again until they have ended."""
    pool = make_pool(HANDLER, "--stream", "{events}")
    pool.stream = "{events}"
    said: dict[str, Any] = json.loads(Report("h", 1, "1", 0.0, 0.0, 15.0).encode())
    pool.redis.hset(keys.plain("{events}", "workers", "instances"), "new", json.dumps(said))
    del said["names"]  # versions before say nothing of it
    for name in ("web-1", "web-2"):
        pool.redis.hset(keys.plain("{events}", "workers", "instances"), name, json.dumps(said))
    for name in ("web-1", "new"):
        pool.redis.set(keys.plain("{events}", "workers", f"instance:{name}"), "1 x h", px=600_000)
    assert pool.run() == 69
    (line,) = [line for line in pool.log().splitlines() if "older version" in line]
    assert "entries again: web-1: end" in line
    pool.redis.delete(keys.plain("{events}", "workers", "instance:web-1"))
    pool.redis.xadd("{events}", {"data": "1"})
    assert pool.run() == 0, pool.log()
    assert ran(pool) == {"{events} 1": 1}
