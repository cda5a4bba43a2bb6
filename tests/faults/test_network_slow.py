"""The network is slow: replies come late, or take longer than any single reply may be waited for."""

from __future__ import annotations

from collections.abc import Callable

from support_outage import HANDLER, OPTIONS, goes_on, in_the_middle
from support_pool import Pool, until
from support_proxy import Proxy


def test_a_large_reply_may_take_its_time(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """Longer than the time-out of a reply: while bytes come in, the line is not deaf.

    Were it given up, the same entries would be asked for again and never come.
    """
    pool = make_far_pool(
        """
        def handle(message):
            started(message)
            finished(message)
        """,
        "--block-ms", "200",
    )  # fmt: skip
    pool.start()
    proxy.slow(bytes_per_s=40_000)
    ids = pool.push([{"text": "x" * 600_000}])
    until(lambda: pool.finished().keys() == set(ids), "the end of a slow reply", 120)
    proxy.heal()
    goes_on(pool, ids)
    assert pool.counters()["RECONNECTS"] == 0


def test_late_replies_are_replies(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """Half a second each way: slower, and all as ever."""
    pool = make_far_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    proxy.slow(delay_s=0.5)
    pool.release("go")
    goes_on(pool, ids)
    assert pool.counters()["RECONNECTS"] == 0
