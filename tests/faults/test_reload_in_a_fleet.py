"""SIGHUP to both pools of a fleet, one of which leads, while the stream is full."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_hosts import Fleet, lease_left, term
from support_pool import Pool, numbers, until

HANDLER = """
    VERSION = "{version}"
    def handle(message):
        started(message)
        ledger().hincrby("versions", VERSION, 1)
        time.sleep(0.001)
        finished(message)
    """


def test_no_lease_is_let_go(make_pool: Callable[..., Pool]) -> None:
    """The new keepers go on with the leases of the old ones: nobody takes over, nothing is run twice."""
    options = ("--workers", "2", "--lease", "6")
    pools = [make_pool(HANDLER.format(version="old"), "--instance", f"host-{n}", *options) for n in range(2)]
    fleet = Fleet(*pools)
    ids = fleet.any.push(numbers(1000))
    fleet.start()
    leader, epochs = fleet.leader(), [pool.keep("EPOCH") for pool in pools]
    terms, old = [term(pool) for pool in pools], [pool.holders() for pool in pools]
    for pool in pools:
        pool.write(HANDLER.format(version="new"))
        pool.signal(signal.SIGHUP)

    def rolled() -> bool:
        assert all(lease_left(pool) for pool in pools), "a lease is gone"
        assert fleet.leader() == leader
        if fleet.any.unread() < 300:
            ids.extend(fleet.any.push(numbers(300)))
        return all("reloaded: every slot runs the new code" in pool.log() for pool in pools)

    until(rolled, "new workers", 60)
    fleet.any.wait_finished(ids)
    fleet.any.wait_settled()
    assert not {pid for pids in old for pid in pids} & {pid for pool in pools for pid in pool.holders()}
    assert [term(pool) for pool in pools] == terms
    assert [pool.keep("EPOCH") for pool in pools] == epochs
    assert fleet.leader() == leader
    assert fleet.swept() == {}
    fleet.stop()
    fleet.assert_exact(ids)
    assert sum(pool.counters()["FAILED"] for pool in pools) == 0
    assert set(fleet.any.hash("versions")) == {"old", "new"}
    assert not any("cannot be trusted" in pool.log() for pool in pools)
