"""A host is lost while one entry takes long: what it had finished before is acknowledged by then."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

from support_hosts import Fleet
from support_pool import Pool, until
from support_servers import is_gone

from rsq.ipc.cells import PoolState

LEASE = ("--lease", "10", "--batch-max", "200", "--batch-ms", "60000")
COUNT, LONG = 60, 50


def pending(pool: Pool) -> set[str]:
    """Return the ids of all that is pending."""
    rows: Any = pool.redis.xpending_range("events", "workers", "-", "+", 10_000)
    return {row["message_id"].decode() for row in rows}


def pushed(pool: Pool, count: int) -> list[str]:
    """Add entries that are known by a key, all at once, and return their ids."""
    pipe = pool.redis.pipeline(transaction=True)
    for n in range(count):
        pipe.xadd("events", {"event": "some", "data": json.dumps({"n": n}), "key": f"key-{n}"})
    return [entry.decode() for entry in pipe.execute()]


def test_what_was_finished_before_it_is_acknowledged(make_pool: Callable[..., Pool]) -> None:
    """With the mark that `--once` wants, left by the same script: a copy that comes later is not handled."""
    handler = f"""
    def handle(message):
        started(message)
        if message.data["n"] == {LONG} and message.attempt == 1:
            wait_for("never")
        finished(message)
    """
    lost = make_pool(handler, "--instance", "lost", *LEASE, "--once", "1h")
    other = make_pool(handler, "--instance", "other", *LEASE, "--once", "1h")
    ids = pushed(lost, COUNT)
    lost.start()
    lost.wait_started(ids[LONG])
    before = lost.batch().ids.index(ids[LONG].encode())
    assert before > 0, "nothing was finished in the same batch"
    until(lambda: not pending(lost) & set(ids[:LONG]), "the acknowledgement of what is finished")
    assert ids[LONG] in pending(lost)
    Fleet(lost).lose(lost)
    other.start()
    other.wait_finished(ids)
    other.wait_settled()
    copies = pushed(other, LONG)
    other.wait_settled()
    assert other.stop() == 0
    assert other.started() == dict.fromkeys(ids, 1) | {ids[LONG]: 2}
    assert other.finished() == dict.fromkeys(ids, 1)
    assert other.counters()["DUPLICATES"] == len(copies)


def test_what_a_call_has_marked_is_acknowledged_while_it_runs(make_pool: Callable[..., Pool]) -> None:
    """By whichever keeper the pool has, and in a drain too."""
    handler = """
    from rsq import Router
    handle = Router()
    @handle.batch("some", size=20, wait=0.5)
    def some(messages):
        for message in messages:
            started(message)
        for message in messages:
            if message.attempt == 1 and message.data["n"] % 5 == 0:
                wait_for(f"part-{message.data['n'] // 5}")
            finished(message)
            message.done()
    """
    lost = make_pool(handler, "--instance", "lost", *LEASE, "--drain-timeout", "600")
    other = make_pool(handler, "--instance", "other", *LEASE)
    ids = pushed(lost, 20)
    lost.start()

    def go_on(part: int) -> None:
        lost.release(f"part-{part}")
        done = set(ids[: 5 * (part + 1)])
        lost.wait_finished(done)
        until(lambda: not pending(lost) & done, f"the acknowledgement of part {part}")
        assert pending(lost) == set(ids) - done

    lost.wait_started(ids[-1])
    go_on(0)
    keeper = lost.keeper()
    os.kill(keeper, signal.SIGKILL)
    until(lambda: is_gone(keeper), "the end of the keeper")
    go_on(1)
    lost.signal(signal.SIGTERM)
    lost.wait_state(PoolState.STOPPING)
    go_on(2)
    Fleet(lost).lose(lost)
    other.start()
    other.wait_finished(ids)
    other.wait_settled()
    assert other.stop() == 0
    assert other.started() == dict.fromkeys(ids[:15], 1) | dict.fromkeys(ids[15:], 2)
    assert other.finished() == dict.fromkeys(ids, 1)


def test_the_worker_that_goes_on_counts_each_entry_once(make_pool: Callable[..., Pool]) -> None:
    """What the keeper has acknowledged may even be trimmed before its worker says that it is done."""
    handler = f"""
    def handle(message):
        started(message)
        if message.data["n"] == {LONG}:
            wait_for("go")
        finished(message)
    """
    pool = make_pool(handler, *LEASE, "--workers", "1")
    ids = pushed(pool, COUNT)
    pool.start()
    pool.wait_started(ids[LONG])
    until(lambda: not pending(pool) & set(ids[:LONG]), "the acknowledgement of what is finished")
    pool.redis.xtrim("events", minid=ids[LONG], approximate=False)
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
