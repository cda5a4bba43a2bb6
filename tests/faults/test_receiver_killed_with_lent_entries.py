"""kill -9 of a worker while it runs an entry that was lent to its slot, with more of them behind it."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_lending import LONG, OPTIONS, behind_a_long_one, lent
from support_pool import Pool, until

HANDLER = f"""
def handle(message):
    started(message)
    ledger().hset("attempts", message.id, message.attempt)
    if message.data["n"] == {LONG}:
        wait_for("go")
    elif message.data["n"] > {LONG} and message.attempt == 1 and ledger().hlen("caught") == 0:
        ledger().hset("caught", message.id, 1)
        wait_for("never")
    finished(message)
"""


def test_only_the_one_it_ran_is_charged(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(HANDLER, *OPTIONS)
    ids = behind_a_long_one(pool)
    pool.signal(signal.SIGTTIN)
    caught = until(lambda: pool.hash("caught"), "a lent entry that runs").popitem()[0]
    until(lambda: lent(pool), "the keeper's count of what it has lent")
    pool.wait_successor(pool.kill_worker(1), 1)
    pool.wait_finished(ids[:LONG] + ids[LONG + 1 :])
    pool.release("go")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted={caught: 2})
    assert pool.hash("attempts") == dict.fromkeys(ids, 1) | {caught: 2}
    assert pool.counters()["FAILED"] == 1
