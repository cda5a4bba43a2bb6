"""An entry that takes its whole host with it, and the next host, and the next."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_hosts import Fleet
from support_pool import Pool, numbers, until

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        ledger().hset("attempts", message.id, message.attempt)
        if message.data["n"] == 13:
            time.sleep(0.2)  # others are in hand by then
            os.killpg(0, signal.SIGKILL)  # the pool has a process group of its own
        time.sleep(0.002)
        finished(message)
"""


def test_it_takes_no_innocent_with_it(make_pool: Callable[..., Pool]) -> None:
    """After its last attempt it is a dead letter, alone; what was in hand beside it is done.

    Three hosts are lost with their memory, each as soon as it runs the entry. An innocent entry that was
    fetched there is charged for that; since suspects run alone, never so often that it dies of it.
    """
    options = ("--lease", "1", "--workers", "2", "--max-attempts", "3", "--batch-max", "50")
    pools = [make_pool(HANDLER, "--instance", f"host-{n}", *options) for n in range(4)]
    fleet = Fleet(*pools)
    ids = pools[0].push(numbers(300))
    culprit = ids[13]
    for pool in pools[:3]:
        pool.start(ready=False)
        pool.wait()
        fleet.lose(pool)
    pools[3].start()
    until(fleet.any.dead, "the dead letter")
    fleet.any.wait_finished([entry for entry in ids if entry != culprit])
    fleet.any.wait_settled()
    assert pools[3].stop() == 0
    letter = fleet.any.dead()[culprit]
    assert (letter.reason, letter.attempts) == ("host lost", 3)
    assert fleet.any.dead().keys() == {culprit}
    assert fleet.any.started()[culprit] == 3
    assert fleet.any.finished().keys() == set(ids) - {culprit}
    assert fleet.swept()["buried"] == 1
