"""The script that acknowledges and leaves a mark, for each entry both or neither."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import RedisError
from support_servers import Server

from rsq.streams.once import Marks, Row

STREAM, GROUP = "events", "workers"
US, THEM = "web-1:0", "web-2:0"


class Bench:
    """A group with two entries, one in our hands and one in others'."""

    def __init__(self, server: Server) -> None:
        self.redis: Any = server.client()
        self.marks = Marks(STREAM, GROUP, US)
        self.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        self.ours, self.theirs = self.add(US), self.add(THEM)

    def add(self, consumer: str) -> bytes:
        entry: bytes = self.redis.xadd(STREAM, {"data": "1"})
        self.redis.execute_command("XREADGROUP", "GROUP", GROUP, consumer, "STREAMS", STREAM, ">")
        return entry

    def rows(self, ttl_ms: int = 60_000) -> list[Row]:
        return [
            Row(self.ours, self.marks.name(b"a"), ttl_ms),
            Row(self.theirs, self.marks.name(b"b"), ttl_ms),
        ]

    def run(self, packed: bytes) -> Any:
        """Send a packed command as it is."""
        connection = self.redis.connection_pool.get_connection()
        try:
            connection.send_packed_command([packed])
            return connection.read_response()
        finally:
            self.redis.connection_pool.release(connection)

    def look(self) -> Any:
        return self.run(self.marks.look([row.mark for row in self.rows()]))

    def pending(self) -> set[bytes]:
        return {row["message_id"] for row in self.redis.xpending_range(STREAM, GROUP, "-", "+", 10)}


@pytest.fixture
def bench(server: Server) -> Bench:
    return Bench(server)


def test_all_are_acknowledged_and_marked(bench: Bench) -> None:
    assert bench.look() == [None, None]
    assert bench.run(bench.marks.ack(bench.rows())) == 2
    assert bench.look() == [bench.ours, bench.theirs]
    assert bench.pending() == set()


def test_what_is_anothers_is_marked_and_left_to_it(bench: Bench) -> None:
    """Our handler has returned for it all the same."""
    assert bench.run(bench.marks.ack_own(bench.rows())) == 1
    assert bench.look() == [bench.ours, bench.theirs]
    assert bench.pending() == {bench.theirs}


def test_sent_again_it_changes_nothing(bench: Bench) -> None:
    """As after a connection that broke: no mark lasts longer for it, nor names another entry."""
    for ttl_ms in (30_000, 60_000):
        bench.run(bench.marks.ack(bench.rows(ttl_ms)))
    other = bench.add(US)
    assert bench.run(bench.marks.ack([bench.rows()[0]._replace(entry=other)])) == 1
    assert bench.look() == [bench.ours, bench.theirs]
    assert all(0 < bench.redis.pttl(row.mark) <= 30_000 for row in bench.rows())


def test_without_memory_nothing_is_acknowledged(own_server: Server) -> None:
    bench = Bench(own_server)
    bench.redis.config_set("maxmemory", 1)
    for packed in (bench.marks.ack(bench.rows()), bench.marks.ack_own(bench.rows())):
        with pytest.raises(RedisError, match="command not allowed when used memory"):
            bench.run(packed)
    bench.redis.config_set("maxmemory", 0)
    assert bench.look() == [None, None]
    assert bench.pending() == {bench.ours, bench.theirs}
