"""kill -9 of the master with busy workers, and a new master of the same instance before they have gone."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_slots_are_taken_over_one_by_one(make_pool: Callable[..., Pool]) -> None:
    """A slot whose old worker still runs has to wait; never are there two owners, nothing is run twice."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] >= 400:
                wait_for("go")
            finished(message)
        """,
        "--workers", "4", "--batch-max", "20", "--batch-ms", "1000",
    )  # fmt: skip
    ids = pool.push(numbers(600))
    pool.start()
    pool.wait_finished(ids[:400])
    pool.wait_count(started=404)
    old = pool.holders()
    assert len(old) == 4
    pool.kill_master()
    pool.start(ready=False)
    pool.wait_log("of a former master, still works in it: waiting", times=4)
    assert pool.holders() == old
    pool.release("go")
    pool.wait_log("ready: 4 workers")
    assert not set(old) & set(pool.holders())
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.consumers() == {f"test:{slot}": 0 for slot in range(4)}, "other names than before"
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert pool.counters()["FAILED"] == 0


def test_a_slot_whose_worker_is_slow_does_not_hold_up_the_others(make_pool: Callable[..., Pool]) -> None:
    """The other slots go on at once; the pool is ready when the last one has been taken over."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] == 0:
                wait_for("go")
            finished(message)
        """,
        "--workers", "2",
    )  # fmt: skip
    ids = pool.push(numbers(1))
    pool.start()
    pool.wait_started(ids[0])
    (busy,) = [slot for slot in range(2) if pool.is_running_handler(slot)]
    holder = pool.worker(busy)
    pool.kill_master()
    pool.start(ready=False)
    pool.wait_log(f"slot {busy}: process {holder}, of a former master, still works in it: waiting")
    more = pool.push(numbers(20)[1:])
    pool.wait_finished(more)
    assert "ready: " not in pool.log()
    assert pool.worker(busy) == holder
    pool.release("go")
    pool.wait_log("ready: 2 workers")
    until(lambda: pool.pending() == 0, "an empty pending list")
    assert pool.stop() == 0
    pool.assert_exact([*ids, *more])
