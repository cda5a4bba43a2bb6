"""A group is paused while its pools work, end, begin, or crash."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

from rsq.ipc.cells import DeskState
from rsq.ipc.fence import boot_time
from rsq.streams.orders import Order

ORDERS = "rsq:{events}:workers:orders"
HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] == 3:
            wait_for("go")
        finished(message)
    """


def pause(pool: Pool) -> None:
    pool.redis.hset(ORDERS, "pause", Order("jo", 1.0, "").encode())


def resume(pool: Pool) -> None:
    pool.redis.hdel(ORDERS, "pause")


def wait_stand_by(pool: Pool, slot: int = 0) -> None:
    until(lambda: pool.desk_state(slot) is DeskState.STANDING_BY, "a worker that stands by")


@pytest.mark.parametrize("count", [4, 8])
def test_what_is_finished_is_acknowledged_before_the_pause(
    make_pool: Callable[..., Pool], count: int
) -> None:
    """What was in hand and not started waits for the resume; what has ended does not wait with it."""
    pool = make_pool(HANDLER, "--lease", "4", "--batch-max", "8")
    ids = pool.push(numbers(count))
    pool.start()
    pool.wait_started(ids[3])
    pause(pool)
    until(lambda: pool.keep("PAUSED") == 1, "the pause")
    pool.release("go")
    wait_stand_by(pool)
    done = pool.finished().keys()
    assert set(ids[:4]) <= done
    until(lambda: pool.pending() + pool.unread() == count - len(done), "acknowledgements")
    resume(pool)
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_a_paused_pool_is_drained(make_pool: Callable[..., Pool]) -> None:
    """TERM ends it as ever: what was read and not started is for anybody to take, charged to nobody."""
    # Batches as large as the lease allows, whatever time the first ones took.
    pool = make_pool(HANDLER, "--lease", "4", "--batch-ms", "60000")
    quick = pool.push([{"n": 9}] * 300)  # it learns to read many at once
    pool.start()
    pool.wait_finished(quick)
    pool.wait_settled()
    with pool.redis.pipeline(transaction=True) as together:
        for n in range(3, 8):
            together.xadd("events", {"data": f'{{"n":{n}}}'})
        ids = [entry.decode() for entry in together.execute()]
    pool.wait_started(ids[0])
    assert len(pool.batch().ids) == 5
    trusted = pool.keep("UNTIL")  # up to here, or before it, entries are started without another look
    pause(pool)
    until(lambda: pool.keep("PAUSED") == 1 and boot_time() > trusted, "the pause")
    pool.release("go")
    wait_stand_by(pool)
    assert pool.started().keys() == {*quick, ids[0]}
    assert pool.stop() == 0
    assert pool.delivery_counts() == dict.fromkeys(ids[1:], 0)
    assert pool.keep("PAUSED") == 1
    pool.start()  # and a pool that begins in a pause is ready, and does nothing
    wait_stand_by(pool)
    assert pool.started().keys() == {*quick, ids[0]}
    assert pool.delivery_counts() == dict.fromkeys(ids[1:], 0)
    resume(pool)
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([*quick, *ids])


def test_a_pool_begins_in_a_pause(make_pool: Callable[..., Pool]) -> None:
    """It has never worked before: it is ready and reads nothing."""
    pool = make_pool(HANDLER, "--lease", "1", "--workers", "2")
    pause(pool)
    ids = pool.push([{"n": 9}] * 20)
    pool.start()
    for slot in range(2):
        wait_stand_by(pool, slot)
    assert (pool.pending(), pool.unread(), pool.started()) == (0, 20, {})
    resume(pool)
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_a_pause_in_a_crash_loop(make_pool: Callable[..., Pool]) -> None:
    """Its process is replaced in the pause, and nothing is tried again before the resume."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] == 0 and not ledger().exists("mended"):
                segfault()
            finished(message)
        """,
        "--lease", "4", "--max-attempts", "100", "--backoff-max", "0.05",
    )  # fmt: skip
    (entry, *ids) = pool.push([{"n": 0}] + [{"n": 9}] * 20)
    pool.start(ready=False)
    pool.wait_started(entry, 2)
    pause(pool)
    until(lambda: pool.keep("PAUSED") == 1, "the pause")
    wait_stand_by(pool)
    until(pool.booted, "a process that works")
    count, pid = pool.started()[entry], pool.worker()
    pool.kill_worker()
    pool.wait_successor(pid)
    wait_stand_by(pool)
    assert pool.started()[entry] == count
    pool.release("mended")
    resume(pool)
    pool.wait_finished([entry, *ids])
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([entry, *ids], restarted={entry: count + 1})
    assert pool.counters()["FAILED"] == count
