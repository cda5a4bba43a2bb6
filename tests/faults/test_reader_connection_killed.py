"""The connection of a reader that waits is killed in the moment in which entries are delivered to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, until

pytestmark = pytest.mark.every_server


def test_what_was_on_its_way_goes_on(make_pool: Callable[..., Pool]) -> None:
    """They are pending for a worker that has never seen them: it finds them, and runs them once."""
    pool = make_pool(
        """
        def handle(message):
            started(message)
            finished(message)
        """,
        "--block-ms", "20000",  # it waits for much longer than it takes to kill it
    )  # fmt: skip
    pool.start()
    ids: list[str] = []
    for stranded in range(1, 6):
        reader = until(lambda: waiting_reader(pool), "a read that waits")
        with pool.redis.pipeline(transaction=False) as pipeline:
            for n in range(3):
                pipeline.xadd("events", {"data": n})
            # In one write: the reader is served the first, and gone before the server sends it anything.
            pipeline.client_kill_filter(_id=reader)
            ids += [entry.decode() for entry in pipeline.execute()[:3]]
        pool.wait_log("came over a line that was given up", times=stranded)
        pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert pool.counters()["RECONNECTS"] == 5


def waiting_reader(pool: Pool) -> str | None:
    """Return the server's id of the connection on which the worker waits for entries."""
    rows = pool.redis.client_list()
    return next((row["id"] for row in rows if row["name"] == "test:0" and "b" in row["flags"]), None)
