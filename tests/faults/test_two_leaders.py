"""Two keepers believe that they lead, again and again, while the entries of a lost host are handed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support_hosts import Fleet
from support_pool import Pool, until

from rsq.streams import keys
from rsq.streams.fleet import Report

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        finished(message)
"""


def test_they_do_no_harm(make_pool: Callable[..., Pool]) -> None:
    """The lease is taken from whoever has it, in the middle of what it does: every step checks the epoch.

    Thousands of entries are held by the lost host; each is handed over once, charged once, and run once.
    """
    options = ("--lease", "1", "--workers", "2")
    one = make_pool(HANDLER, "--instance", "one", *options)
    two = make_pool(HANDLER, "--instance", "two", *options)
    fleet = Fleet(one, two)
    client: Any = one.redis
    client.xgroup_create("events", "workers", "0", mkstream=True)
    report = Report("lost.example.org", 1, "1", 0.0, 0.0, 1.0, {0: "busy", 1: "busy"})
    client.hset(keys.instances("events", "workers"), "lost", report.encode())

    def lose() -> list[str]:
        with client.pipeline(transaction=True) as pipe:  # added and delivered at once: nobody else gets any
            for n in range(3000):
                pipe.xadd("events", {"data": n})
            for slot in (0, 1):
                pipe.xreadgroup("workers", f"lost:{slot}", {"events": ">"}, 1500)
            *added, _, _ = pipe.execute()
        return [entry.decode() for entry in added]

    ids = lose()
    one.start()
    two.start()
    leader, epoch = keys.leader("events", "workers"), keys.epoch("events", "workers")
    taken = interfered = 0
    while taken < len(ids) or not interfered:
        if taken >= len(ids):  # all was done before anybody could interfere
            ids += lose()
        # A leader begins after a lease. Once it has, the lead is taken from it, under a new epoch.
        until(lambda before=taken: fleet.swept().get("taken", 0) > before, "a step")  # type: ignore[misc]
        client.incr(epoch)
        client.delete(leader)
        taken = fleet.swept()["taken"]
        interfered += taken < len(ids)
    one.wait_settled()
    fleet.stop()
    swept = fleet.swept()
    assert swept["suspects"] == len(ids)
    assert swept["taken"] >= len(ids), "what rests at a busy slot may be handed on to an idle one"
    assert one.hash("attempts") == dict.fromkeys(ids, 2)
    fleet.assert_exact(ids)
