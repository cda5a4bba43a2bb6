"""The network loses everything that goes one way: one side knows nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest
from support_outage import HANDLER, OPTIONS, goes_on, in_the_middle
from support_pool import Pool, until
from support_proxy import Proxy


@pytest.mark.parametrize("way", ["to_server", "to_client"])
def test_a_line_that_answers_no_more_is_replaced(
    make_far_pool: Callable[..., Pool], proxy: Proxy, way: Literal["to_server", "to_client"]
) -> None:
    """Acknowledgements that were lost, or whose replies were, are sent again; nothing is run again.

    The old connection stays open at the server's end, for as long as it likes.
    """
    pool = make_far_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    proxy.drop(way)
    pool.release("go")
    pool.wait_log("consumer test:0: no reply in time")
    proxy.heal()
    goes_on(pool, ids)
    assert pool.counters()["RECONNECTS"] == 1


def test_entries_delivered_to_a_deaf_line_go_on(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """The server gave them to the waiting read and thinks that they have arrived."""
    pool = make_far_pool(HANDLER, *OPTIONS, "--block-ms", "10000")
    ids = in_the_middle(pool)
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    # The command of a read has got through, and it has just begun to wait; its reply is lost.
    until(lambda: reads_wait(pool), "a read that waits")
    proxy.drop("to_client")
    more = pool.push([{"n": n} for n in range(100, 110)])
    until(lambda: more[0].encode() in proxy.lost, "entries that are delivered to nobody")
    assert pool.pending() > 0
    assert pool.started().keys() == set(ids)
    proxy.heal()
    pool.wait_log("came over a line that was given up", deadline_s=60)
    goes_on(pool, ids + more)


def reads_wait(pool: Pool) -> bool:
    """Tell whether the server keeps the worker waiting for entries."""
    return any(row["name"] == "test:0" and "b" in row["flags"] for row in pool.redis.client_list())
