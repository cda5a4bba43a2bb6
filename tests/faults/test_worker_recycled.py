"""Workers are replaced after so many messages, or when they have grown: one at a time, nothing lost."""

from __future__ import annotations

from collections.abc import Callable

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
    until(lambda: _recycled(pool, 1)[0] == 1, "the replacement")
    until(lambda: pool.holders() not in ([], [first]), "its successor")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
