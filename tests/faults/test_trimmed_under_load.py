"""A stream is trimmed while two groups work on it, one of them slow; an old host's traces are removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support_hosts import Fleet
from support_pool import Pool, numbers, until

from rsq.streams import keys

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] % 50 == 7 and message.attempt == 1:
            raise Retry("later", delay=0.3)
        finished(message)
"""
ROUNDS, TRIMS, PUSHED, READ, ACKED = 40, 4, 20, 15, 10


class Audit:
    """The slow group, which sees that each entry that it has yet to read or acknowledge is there."""

    def __init__(self, pool: Pool) -> None:
        self.redis: Any = pool.redis
        self.seen: list[str] = []
        self.open: list[bytes] = []
        self.redis.xgroup_create("events", "audit", "0", mkstream=True)

    def read(self, count: int) -> bool:
        """Read some; tell whether there were any."""
        reply = self.redis.xreadgroup("audit", "x", {"events": ">"}, count)
        found = reply[0][1] if reply else []
        assert all(fields for _, fields in found)
        self.seen += [entry.decode() for entry, _ in found]
        self.open += [entry for entry, _ in found]
        return bool(found)

    def ack(self, count: int) -> None:
        """Acknowledge the oldest; all that are left must still have their payloads."""
        for entry in self.open[:count]:
            assert self.redis.xack("events", "audit", entry) == 1
        self.open = self.open[count:]
        mine = self.redis.xreadgroup("audit", "x", {"events": "0"}, 10_000)[0][1]
        assert [entry for entry, fields in mine if fields] == self.open


@pytest.mark.parametrize(("trim", "left"), [("acked", 1), ("maxlen:30", 30)])
def test_nothing_goes_that_a_group_needs(make_pool: Callable[..., Pool], trim: str, left: int) -> None:
    """Neither what a group has not read, nor what is pending in it; and no consumer of the living."""
    options = ("--lease", "3", "--workers", "2", "--trim", trim, "--consumer-ttl", "1")
    one = make_pool(HANDLER, "--instance", "one", *options)
    old = make_pool(HANDLER, "--instance", "old", *options)
    fleet = Fleet(one, old)
    audit = Audit(one)
    fleet.start()
    ids: list[str] = []
    trims: set[int] = set()
    while len(ids) < ROUNDS * PUSHED or len(trims) < TRIMS:
        trims.add(fleet.swept().get("trimmed", 0))
        ids += one.push(numbers(PUSHED))
        audit.read(READ)
        audit.ack(ACKED)
        one.wait_count(started=len(ids))
    one.wait_finished(ids)
    # What audit has pending and what it has not read is all that is left.
    first = audit.open[0]
    stream: Any = one.redis
    until(lambda: stream.xrange("events", count=1)[0][0] == first, "a stream that begins with that")
    while audit.read(100):
        audit.ack(100)
    audit.ack(len(audit.open))
    assert audit.seen == ids
    until(lambda: one.redis.xlen("events") == left, "a stream that is short")
    one.redis.xgroup_destroy("events", "audit")
    one.wait_settled()
    assert fleet.swept() == {"trimmed": len(ids) - left}
    # Both are idle for longer than consumers are kept, and live.
    names = {f"{name}:{slot}" for name in ("one", "old") for slot in (0, 1)}

    def idle() -> bool:
        rows: Any = one.redis.xinfo_consumers("events", "workers")
        return all(row["idle"] > 2000 for row in rows)

    until(idle, "consumers that have done nothing for long")
    assert one.consumers() == dict.fromkeys(names, 0)
    fleet.lose(old)
    until(lambda: one.consumers().keys() == {"one:0", "one:1"}, "the end of the old consumers")
    reports = keys.instances("events", "workers")
    until(lambda: one.redis.hkeys(reports) == [b"one"], "the end of the old report")
    assert fleet.swept() == {"trimmed": len(ids) - left, "removed": 2}
    assert one.stop() == 0
    fleet.assert_exact(ids, restarted={entry: 2 for at, entry in enumerate(ids) if at % PUSHED == 7})
