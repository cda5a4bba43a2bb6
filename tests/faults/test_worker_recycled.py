"""Workers are replaced after so many messages, or when they have grown: one at a time, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

from rsq.ipc.cells import S
from rsq.ipc.exitcodes import Cause


def _recycled(pool: Pool, slots: int) -> list[int]:
    segment = pool.segment()
    counts = [segment.slot(slot).seat.view[S.RESTARTS + Cause.RECYCLE] for slot in range(slots)]
    segment.close()
    return counts


def test_after_messages(make_pool: Callable[..., Pool]) -> None:
    """Every slot is replaced, under load; each entry is run once."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            time.sleep(0.002)
            finished(message)
        """,
        "--workers", "4", "--max-messages", "30",
    )  # fmt: skip
    pool.start()
    ids: list[str] = []
    while not all(_recycled(pool, 4)):
        ids += pool.push(numbers(50))
        pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert pool.log().count(": recycled, ") >= 4


def test_after_growth(make_pool: Callable[..., Pool]) -> None:
    """A handler that leaks is replaced long before it fills the machine."""
    pool = make_pool(
        """
        leaked = []
        def handle(message):
            started(message)
            leaked.append(b"x" * (1 << 20))
            finished(message)
        """,
        "--max-memory-growth", "20M",
    )  # fmt: skip
    pool.start()
    first = pool.worker()
    ids = pool.push(numbers(5))
    pool.wait_finished(ids)
    pool.wait_settled()
    until(
        lambda: not _recycled(pool, 1)[0] and pool.worker() == first, "the first process, unharmed by 5 MiB"
    )
    ids += pool.push(numbers(40))
    pool.wait_log("recycled, grown by")
    pool.wait_finished(ids)
    until(lambda: _recycled(pool, 1)[0] >= 1, "the replacement")
    until(lambda: pool.holders() not in ([], [first]), "its successor")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


SHARES = """
    from rsq import Router
    app = Router()
    def done_by_me(message):
        started(message)
        ledger().hincrby("by", str(os.getpid()), 1)
    @app.on("single")
    def single(message):
        done_by_me(message)
        if message.data["n"] % 5 == 0 and message.attempt == 1:
            raise ValueError("once more")
        finished(message)
    @app.batch("many", size=8, wait=0.01)
    def many(messages):
        for message in messages:
            done_by_me(message)
            finished(message)
            message.done()
    """


@pytest.mark.parametrize("most", [1, 6])
def test_no_process_handles_more_than_its_share(make_pool: Callable[..., Pool], most: int) -> None:
    """Neither by what it had read, nor by retries, nor by a call for many; and its end is no failure."""
    pool = make_pool(SHARES, "--workers", "2", "--max-messages", str(most))
    pool.target = "app:app"
    ids = pool.push(numbers(20), "single") + pool.push(numbers(20), "many") + pool.push(numbers(20), "single")
    assert pool.run() == 0, pool.log()
    again = {entry: 2 for start in (0, 40) for entry in ids[start : start + 20 : 5]}
    pool.assert_exact(ids, restarted=again)
    by = pool.hash("by")
    assert max(by.values()) <= most
    assert sum(by.values()) == len(ids) + len(again)
    assert "its process" not in pool.log()
    assert sum(_recycled(pool, 2)) >= len(by) - 2


def test_a_quick_leak_is_stopped_within_milliseconds(make_pool: Callable[..., Pool]) -> None:
    """Entries that take no time and leave 4 MiB each: the worker looks itself, not somebody now and then."""
    pool = make_pool(
        """
        leaked = []
        def handle(message):
            started(message)
            leaked.append(b"x" * (4 << 20))
            ledger().hincrby("by", str(os.getpid()), 1)
            finished(message)
        """,
        "--max-memory-growth", "40M",
    )  # fmt: skip
    ids = pool.push(numbers(60))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    assert max(pool.hash("by").values()) <= 20
    assert pool.log().count("recycled, grown by") >= 3
