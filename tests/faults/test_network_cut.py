"""The network ends all connections, and refuses new ones for a while."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_outage import (
    HANDLER,
    OPTIONS,
    at_ease,
    goes_on,
    goes_on_after_restart,
    in_the_middle,
    stops_in_time,
)
from support_pool import Pool
from support_proxy import Proxy

pytestmark = pytest.mark.every_server


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_finished_entries_are_acked_on_return(
    make_far_pool: Callable[..., Pool], proxy: Proxy, *, reset: bool
) -> None:
    """Nothing is run twice, whichever way a connection ends; the log says what to look at."""
    pool = make_far_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    with at_ease(pool):
        proxy.refuse()
        proxy.cut(reset=reset)
        pool.release("go")
        pool.wait_log("connection refused: is the server running, and on this port?", times=2)
    proxy.heal()
    goes_on(pool, ids)


def test_a_drain_ends_in_time(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """What was finished is acknowledged by the next pool."""
    pool = make_far_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    proxy.refuse()
    proxy.cut()
    pool.release("go")
    pool.wait_log("connection refused")
    stops_in_time(pool)
    proxy.heal()
    goes_on_after_restart(pool, ids)


def test_many_cuts_under_load(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """Each comes in the middle of something else."""
    pool = make_far_pool(
        """
        def handle(message):
            started(message)
            finished(message)
        """,
        "--workers", "2", "--block-ms", "50", "--batch-max", "20",
    )  # fmt: skip
    pool.start()
    ids: list[str] = []
    for cut in range(12):
        ids += pool.push([{"n": n} for n in range(100)])
        pool.wait_count(finished=cut * 100 + 30)
        proxy.cut(reset=bool(cut % 2))
    goes_on(pool, ids)
