"""The dead-letter key is no stream, so no dead letter can be written; and the worker crashes meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

pytestmark = pytest.mark.every_server

DEAD = {3: 1, 4: 0, 5: 2, 6: 2}
REASONS = {3: "rejected", 4: "decode_error", 5: "max_attempts", 6: "crash: SIGSEGV"}


def test_entries_stay_pending_until_it_is_repaired(make_pool: Callable[..., Pool]) -> None:
    """The pool goes on with the others; then each letter is written once, no handler runs again for it."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            match message.data["n"]:
                case 3: raise Reject("never")
                case 5: raise ValueError("always")
                case 6: segfault()
            finished(message)
        """,
        "--max-attempts", "2",
    )  # fmt: skip
    pool.redis.set("events:dlq", "no stream")
    ids = [*pool.push(numbers(4)), pool.add({b"data": b"{"})]
    ids += pool.push({"n": n} for n in range(5, 20))
    dead = {ids[n]: starts for n, starts in DEAD.items()}
    pool.start()
    pool.wait_finished(entry for entry in ids if entry not in dead)
    until(lambda: pool.delivery_counts().keys() == dead.keys(), "the acknowledgement of all others")
    until(lambda: pool.started().get(ids[6]) == 2, "the last attempt of the one that crashes")
    for entry in dead:
        pool.wait_log(f"entry {entry} cannot be dead-lettered")
    pool.wait_successor(pool.kill_worker())
    told = pool.log().count("cannot be dead-lettered")
    pool.wait_log("cannot be dead-lettered", times=told + len(dead))
    pool.redis.delete("events:dlq")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, dead=dead)
    letters = pool.dead()
    assert {n: letters[ids[n]].reason.partition(":")[0] for n in DEAD} == {
        n: reason.partition(":")[0] for n, reason in REASONS.items()
    }
    assert {n: letters[ids[n]].attempts for n in DEAD} == {3: 1, 4: 1, 5: 2, 6: 2}
    assert (pool.counters()["FAILED"], pool.counters()["RETRIED"]) == (4, 2)
