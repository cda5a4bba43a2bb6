"""A soft limit as short as a batch, and handlers that exceed it, or end in the very moment it is over."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_it_hits_slow_handlers_and_nothing_else(make_pool: Callable[..., Pool]) -> None:
    """2,000 entries, every two-hundredth is slow: it gets the exception in its handler, no quick one does.

    A quick one may be slow on a busy machine; so every handler that is hit says for how long it ran, at most:
    since the one before it. It may be hit anywhere, so it notes what is true however often it is said.
    """
    pool = make_pool(
        """
        from rsq import SoftTimeout
        attempts, ended, unjust, before = {}, {}, {}, [0.0]
        def worker_stop():
            notes = {"ledger:started": attempts, "ledger:finished": ended, "hit unjustly": unjust}
            for name, noted in notes.items():
                if noted:
                    ledger().hset(name, mapping=noted)
        def handle(message):
            try:
                attempts[message.id] = message.attempt
                while message.data["n"] % 200 == 100 and message.attempt == 1:
                    time.sleep(0.001)
                time.sleep(0.0005)
                ended[message.id] = 1
            except SoftTimeout:
                if time.monotonic() - before[0] < 0.1:
                    unjust[message.id] = 1
                raise
            finally:
                before[0] = time.monotonic()
        """,
        "--soft-timeout", "0.1", "--batch-ms", "1000", "--max-attempts", "9",
    )  # fmt: skip
    ids = pool.push(numbers(2000))
    pool.start()
    worker = pool.worker()
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    attempts = pool.started()
    hit = {entry: attempt for entry, attempt in attempts.items() if attempt > 1}
    assert set(ids[100::200]) <= hit.keys()
    assert pool.hash("hit unjustly") == {}
    pool.assert_exact(ids, restarted=hit)
    assert pool.counters()["FAILED"] == pool.counters()["RETRIED"] == sum(hit.values()) - len(hit)
    assert "Traceback" not in pool.log()


def test_it_never_hits_our_own_code(make_pool: Callable[..., Pool]) -> None:
    """400 handlers end within 40 us of the limit: each ends well or is tried again, and the worker lives."""
    pool = make_pool(
        """
        starts = {}
        def worker_stop():
            ledger().hset("ledger:started", mapping=starts)
        def handle(message):
            end = time.monotonic() + 0.00398 + message.data["n"] / 10_000_000
            starts[message.id] = starts.get(message.id, 0) + 1
            while message.attempt == 1 and time.monotonic() < end:
                pass
        """,
        "--soft-timeout", "0.004", "--max-attempts", "9",
    )  # fmt: skip
    ids = pool.push(numbers(400))
    pool.start()
    worker = pool.worker()
    pool.wait_settled()
    assert pool.worker() == worker, f"the process was replaced:\n{pool.log()}"
    assert pool.stop() == 0
    pool.assert_books(ids)
    starts = pool.started()
    assert starts.keys() == set(ids)
    # On a busy machine the limit may be over before the handler has noted its start.
    assert pool.counters()["FAILED"] == pool.counters()["RETRIED"] >= sum(starts.values()) - len(ids)
    assert "Traceback" not in pool.log()
