"""A fleet made by hand: what keepers and workers would have written, without any of them."""

from __future__ import annotations

import time
from typing import Any

from support_servers import Server

from rsq.streams import keys, lease, marks
from rsq.streams.fleet import Report
from rsq.streams.letter import name_bytes
from rsq.streams.marks import Mark

STREAM, GROUP = "orders", "mailer"


class Fleet:
    """A group on a server, and what to write there."""

    def __init__(self, server: Server, stream: str = STREAM, group: str = GROUP) -> None:
        """Make the group."""
        self.stream, self.group = stream, group
        self._newest_ms = 0
        self.old = False  # marks are set as versions before set them: by idle time
        self.client: Any = server.client()
        self.call("XGROUP", "CREATE", stream, group, "0", "MKSTREAM")

    def call(self, *words: Any) -> Any:
        """Send one command; text is sent as the bytes it was made of."""
        return self.client.execute_command(
            *(name_bytes(word) if isinstance(word, str) else word for word in words)
        )

    def packed(self, command: bytes) -> Any:
        """Send a command that is packed already."""
        pool = self.client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_packed_command([command])
            return connection.read_response()
        finally:
            pool.release(connection)

    def report(self, name: str, **values: Any) -> Report:
        """Let an instance report, as its keeper does."""
        now = time.time()
        given: dict[str, Any] = {
            "host": f"{name}.example",
            "pid": 4711,
            "version": "1.0",
            "started": now - 7200,
        }
        given |= {"beat": now - 1, "lease_s": 15.0, "slots": {0: "busy", 1: "idle"}}
        made = Report(**(given | values))
        self.call("HSET", keys.instances(self.stream, self.group), name, made.encode())
        return made

    def live(self, name: str, *, ttl_ms: int = 15_000, **values: Any) -> None:
        """Let an instance report, and hold its lease."""
        self.report(name, **values)
        self.packed(
            lease.acquire(keys.lease(self.stream, self.group, name), self._epochs, f"t-{name}", name, ttl_ms)
        )

    def die(self, name: str) -> None:
        """Let an instance's lease run out."""
        self.call("DEL", keys.lease(self.stream, self.group, name))

    def lead(self, name: str, *, ttl_ms: int = 15_000) -> None:
        """Let an instance lead."""
        self.packed(
            lease.acquire(keys.leader(self.stream, self.group), self._epochs, f"l-{name}", name, ttl_ms)
        )

    def push(self, count: int, *, age_s: float = 0.0) -> list[bytes]:
        """Write entries that are so old."""
        # Two calls may fall into one millisecond.
        self._newest_ms = ms = max(int((time.time() - age_s) * 1000), self._newest_ms + 1)
        return [self.call("XADD", self.stream, f"{ms}-{n}", "data", b"1") for n in range(1, count + 1)]

    def read(self, consumer: str, count: int) -> None:
        """Let a consumer read."""
        self.call("XREADGROUP", "GROUP", self.group, consumer, "COUNT", count, "STREAMS", self.stream, ">")

    def claim(self, consumer: str, entry: bytes, *, idle_ms: int, attempts: int = 1) -> None:
        """Set an entry's slot, idle time and counter; a large idle time is a mark."""
        mark, untouched_ms = marks.read(Mark.HELD, idle_ms)
        owner, idle_ms = marks.place(consumer, mark, old=self.old)
        words = ("IDLE", idle_ms + untouched_ms, "RETRYCOUNT", attempts, "JUSTID")
        self.call("XCLAIM", self.stream, self.group, owner, 0, entry, *words)

    @property
    def _epochs(self) -> str:
        return keys.epoch(self.stream, self.group)
