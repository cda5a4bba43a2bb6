"""kill -9 of a worker that Redis has confirmed a batch to, and that has not counted it yet."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers


def test_what_is_acknowledged_and_not_counted_is_counted_by_the_successor(
    make_pool: Callable[..., Pool],
) -> None:
    """The journal still has the batch: its entries are run once, and are in the books once.

    The worker kills itself where it would count, if nothing is pending: the acknowledgements have gone out
    with the read that it is about to wait for.
    """
    pool = make_pool("""
        import os
        from rsq.worker.books import Books

        def handle(message):
            started(message)
            finished(message)

        def worker_start():
            count = Books.count

            def dies(books):
                if books._finished and ledger().exists("armed"):
                    for _ in range(100):
                        if not ledger().xpending("events", "workers")["pending"]:
                            ledger().delete("armed")
                            os.kill(os.getpid(), 9)
                count(books)

            Books.count = dies
        """)
    pool.start()
    early = pool.push(numbers(3))
    pool.wait_finished(early)
    pool.wait_settled()
    victim = pool.worker()
    pool.books.set("armed", 1)
    ids = pool.push(numbers(1))  # a single one: the read behind it goes out when it is finished
    pool.wait_successor(victim)
    ids += pool.push(numbers(20))
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([*early, *ids])
    assert pool.counters()["FAILED"] == 0
