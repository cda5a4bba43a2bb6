"""kill -9 of the master of a pool that has grown: the next one goes on with the size that it had."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until

from rsq.ipc.cells import P


def test_the_next_master_begins_where_it_was(make_pool: Callable[..., Pool]) -> None:
    """At five of 2-16 with a backlog; once it has ended in good order, it begins with the least again."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            time.sleep(0.005)
            finished(message)
        """,
        "--workers", "2-16", "--scale-target", "1", "--scale-step", "3", "--scale-cooldown", "1000",
        "--lease", "4",
    )  # fmt: skip
    ids = pool.push(numbers(4000))
    pool.start()
    assert "ready: 2 workers" in pool.log()
    until(lambda: pool.booted().keys() == set(range(5)), "a pool of five")
    until(lambda: size(pool) == 5, "its size in the memory")  # written after the processes were started
    pool.kill_master()
    pool.wait_free()
    pool.start()
    assert "ready: 5 workers" in pool.log()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert pool.counters()["FAILED"] == 0
    pool.start()
    assert "ready: 2 workers" in pool.log()
    assert pool.stop() == 0


def size(pool: Pool) -> int:
    segment = pool.segment()
    try:
        return segment.pool.view[P.WORKERS]
    finally:
        segment.close()
