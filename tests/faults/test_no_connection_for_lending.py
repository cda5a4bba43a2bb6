"""The server has no connection left for lending: the lease is kept all the same."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until

LONG = 100
HANDLER = f"""
def handle(message):
    started(message)
    if message.data["n"] == {LONG}:
        wait_for("go")
    finished(message)
"""


def test_the_lease_is_kept(make_own_pool: Callable[..., Pool]) -> None:
    pool = make_own_pool(HANDLER, "--batch-max", "200", "--batch-ms", "1000", "--lease", "2")
    ids = pool.push(numbers(250))
    pool.start()
    pool.wait_started(ids[LONG])
    pool.redis.config_set("maxclients", int(pool.redis.info("clients")["connected_clients"]) + 1)
    pool.signal(signal.SIGTTIN)
    until(lambda: len(pool.booted()) == 2, "a second worker")
    until_s = pool.keep("UNTIL")
    until(lambda: pool.keep("UNTIL") > until_s + 6, "beats for three leases")
    pool.redis.config_set("maxclients", 1000)
    pool.release("go")
    pool.wait_settled()
    assert pool.stop() == 0
    assert "cannot be trusted" not in pool.log()
    assert pool.term() == 1, pool.log()
    pool.assert_exact(ids)
