"""kill -9 of the master while all of its workers run handlers."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_workers_finish_what_they_run_and_go(make_pool: Callable[..., Pool]) -> None:
    """What they run is finished and acknowledged, the rest is handed back uncharged, nobody reads on."""
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
    quick = ids[:400]
    pool.start()
    pool.wait_finished(quick)
    pool.wait_count(started=404)
    until(lambda: 4 < pool.pending() <= 200, "acknowledgements")
    running = pool.started().keys() - quick
    pool.kill_master()
    late = pool.push(numbers(5))
    pool.release("go")
    pool.wait_free()
    assert pool.finished().keys() == {*quick, *running}
    assert (len(running), pool.unread() >= len(late)) == (4, True)
    counts = [count for slot in range(4) for count in pool.delivery_counts(f"test:{slot}").values()]
    assert counts
    assert set(counts) == {0}, "an attempt was charged"
    pool.start()
    pool.wait_finished([*ids, *late])
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([*ids, *late])
    assert pool.counters()["FAILED"] == 0
