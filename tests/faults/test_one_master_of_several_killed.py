"""kill -9 of one master among several under a root."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_pool import numbers, until
from support_several import Several


def test_only_its_pool_notices(make_several: Callable[..., Several]) -> None:
    """A new master takes over at once; the other pool's processes and work stay as they are."""
    pools = make_several(
        """
        handler = "app:slow"
        [[pool]]
        stream = "orders"
        [[pool]]
        stream = "mails"
        """,
        """
        def slow(message):
            started(message)
            if message.data["n"] == 50:
                wait_for("go")
            finished(message)
        """,
    ).start(ready=2)
    ids = {stream: pools.push(stream, numbers(100)) for stream in ("orders", "mails")}
    for stream, entries in ids.items():
        pools.wait_finished(stream, [*entries[:50], *entries[51:]])
    others = [pools.master("mails"), *pools.workers("mails")]
    old = pools.master("orders")
    os.kill(old, signal.SIGKILL)
    pools.wait_log("pool orders/workers: its master died: SIGKILL; a new one starts in 0.0 s")
    pools.wait_log("orders/workers: slot ")
    until(lambda: pools.master("orders") != old, "a new master")
    more = pools.push("mails", numbers(20))
    ids["mails"] += more
    pools.wait_finished("mails", more)
    pools.redis.set("go", 1)
    pools.wait_log("] orders/workers: ready: 2 workers", 2)
    more = pools.push("orders", numbers(20))
    ids["orders"] += more
    for stream, entries in ids.items():
        pools.wait_finished(stream, entries)
    assert [pools.master("mails"), *pools.workers("mails")] == others
    pools.wait_settled(*ids)
    assert pools.stop() == 0
    for stream, entries in ids.items():
        pools.assert_exact(stream, entries)
        assert pools.counters(stream)["FAILED"] == 0
