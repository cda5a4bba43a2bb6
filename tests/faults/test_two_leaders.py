"""Two keepers believe that they lead, again and again, while the entries of a lost host are handed over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support_hosts import Fleet
from support_pool import Pool, numbers, until

from rsq.streams import keys
from rsq.streams.fleet import Report

HANDLER = """
    def handle(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        finished(message)
"""


def test_they_do_no_harm(make_pool: Callable[..., Pool]) -> None:
    """The lease is taken from whoever has it, in the middle of what it does: every step checks the epoch.

    Six thousand entries are held by the lost host; each is handed over once, charged once, and run once.
    """
    options = ("--lease", "1", "--workers", "2")
    one = make_pool(HANDLER, "--instance", "one", *options)
    two = make_pool(HANDLER, "--instance", "two", *options)
    fleet = Fleet(one, two)
    client: Any = one.redis
    client.xgroup_create("events", "workers", "0", mkstream=True)
    report = Report("lost.example.org", 1, "1", 0.0, 0.0, 1.0, {0: "busy", 1: "busy"})
    client.hset(keys.instances("events", "workers"), "lost", report.encode())
    ids = one.push(numbers(6000))
    for slot in (0, 1):
        assert client.xreadgroup("workers", f"lost:{slot}", {"events": ">"}, 3000)
    one.start()
    two.start()
    leader, epoch = keys.leader("events", "workers"), keys.epoch("events", "workers")
    taken = changes = 0
    while taken < len(ids):
        # A leader begins after a lease. Once it has, the lead is taken from it, under a new epoch.
        until(lambda before=taken: fleet.swept().get("taken", 0) > before, "a step")  # type: ignore[misc]
        client.incr(epoch)
        client.delete(leader)
        taken = fleet.swept()["taken"]
        changes += 1
    assert changes > 1, "all was done before anybody could interfere"
    one.wait_settled()
    fleet.stop()
    swept = fleet.swept()
    assert swept["suspects"] == 6000
    assert swept["taken"] >= 6000, "what rests at a busy slot may be handed on to an idle one"
    assert one.hash("attempts") == dict.fromkeys(ids, 2)
    fleet.assert_exact(ids)
