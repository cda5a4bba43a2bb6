"""The server has no connection left for lending: the lease is kept all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support_pool import Pool, until

FIRST, LONG = 0, 100
HANDLER = f"""
def handle(message):
    started(message)
    if message.data["n"] == {FIRST}:
        wait_for("first")
    if message.data["n"] == {LONG}:
        wait_for("go")
    finished(message)
"""


def test_the_lease_is_kept(make_own_pool: Callable[..., Pool]) -> None:
    """One of two workers is idle, the other has much behind a long entry: the keeper tries to lend it."""
    pool = make_own_pool(
        HANDLER, "--batch-max", "200", "--batch-ms", "60000", "--lease", "4", "--workers", "2"
    )
    pool.start()
    info: Any = pool.redis.info("clients")
    pool.redis.config_set("maxclients", info["connected_clients"])  # the lender has not needed its own yet
    ids = push(pool, [0])
    pool.wait_started(ids[FIRST])
    ids += push(pool, range(1, 250))
    pool.wait_started(ids[LONG])
    slot = next(slot for slot in (0, 1) if ids[LONG].encode() in pool.batch(slot).ids)
    assert len(pool.batch(slot).ids) - pool.batch(slot).started > 10, "nothing to lend"
    pool.release("first")
    until(lambda: refused(pool), "a connection that is refused")
    before, until_s = refused(pool), pool.keep("UNTIL")
    until(lambda: pool.keep("UNTIL") > until_s + 12, "beats for three leases")
    assert refused(pool) > before, "it was not tried again"
    pool.redis.config_set("maxclients", 1000)
    pool.release("go")
    pool.wait_settled()
    assert pool.stop() == 0
    assert "cannot be trusted" not in pool.log()
    assert pool.term() == 1, pool.log()
    pool.assert_exact(ids)


def push(pool: Pool, items: Any) -> list[str]:
    """Add entries over the connection that the test has; a further one would be refused."""
    with pool.redis.pipeline(transaction=True) as together:
        for n in items:
            together.xadd("events", {"data": f'{{"n":{n}}}'})
        return [entry.decode() for entry in together.execute()]


def refused(pool: Pool) -> int:
    stats: Any = pool.redis.info("stats")
    return int(stats["rejected_connections"])
