"""A pool that scales itself is made smaller and larger while every one of its workers is busy."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until

from rsq.streams.orders import Order, Orders


def test_nothing_is_lost_and_nothing_runs_twice(make_pool: Callable[..., Pool]) -> None:
    """Four of six slots close at once; what they had goes on elsewhere, uncharged; then they open again."""
    pool = make_pool(
        """
        def handle(message):
            assert message.attempt == 1
            started(message)
            time.sleep(0.002)
            finished(message)
        """,
        "--workers", "1-6", "--scale-target", "1", "--scale-step", "5", "--scale-cooldown", "0.2",
        "--max-attempts", "1",
    )  # fmt: skip
    orders = Orders(pool.redis, "events", "workers")
    ids = pool.push(numbers(3000))
    pool.start()

    def busy(wanted: set[int]) -> bool:
        if pool.unread() < 2000:
            ids.extend(pool.push(numbers(1000)))
        return pool.booted().keys() == wanted

    until(lambda: busy(set(range(6))), "a pool of six")
    for _ in range(2):
        orders.scale("test", 2, Order("ann", 0.0))
        until(lambda: busy({0, 1}), "a pool of two")
        orders.scale("test", 0, Order("ann", 0.0))
        until(lambda: busy(set(range(6))), "a pool of six again")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
