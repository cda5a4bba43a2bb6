"""The server is demoted to a replica: a failover to another one, or a mistake that is taken back."""

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
from support_pool import Pool, until
from support_proxy import Proxy
from support_servers import Server

pytestmark = pytest.mark.every_server

ADVICE = "the server is a read-only replica: point the URL to its primary"


def follow(server: Server, other: Server) -> None:
    """Make a server the replica of another, and wait until it has all that the other has."""
    client = server.client()
    client.replicaof("127.0.0.1", other.port)
    until(lambda: client.info("replication")["master_link_status"] == "up", "a replica")
    wanted = other.client().info("replication")["master_repl_offset"]
    until(lambda: client.info("replication")["slave_repl_offset"] >= wanted, "a replica that is up to date")


def test_the_address_leads_to_the_new_primary(
    make_far_pool: Callable[..., Pool], proxy: Proxy, own_server: Server
) -> None:
    """Behind the same address there is another server: workers leave the old one by themselves.

    Here the new primary has all that the old one had, so nothing is run twice. What replication had
    not brought over would be: acknowledgements are not waited for.
    """
    pool = make_far_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    # What was lent to the other worker is acknowledged: nothing is on its way while the servers change.
    pool.wait_finished(entry for entry in ids if entry != ids[20])
    until(lambda: sum(map(bool, pool.consumers().values())) == 1, "one worker that has entries")
    other = Server(own_server.binary, durable=True)
    try:
        other.start()
        follow(other, own_server)
        other.client().replicaof("NO", "ONE")
        with at_ease(pool):
            own_server.client().replicaof("127.0.0.1", other.port)
            pool.release("go")
            pool.wait_log(ADVICE, times=2)
        proxy.retarget(other.port)
        pool.redis, pool.server = other.client(), other
        goes_on(pool, ids)
    finally:
        other.discard()


def test_workers_wait_for_a_promotion(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """The same server is a primary again later: finished entries are acknowledged then."""
    pool = make_own_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    with at_ease(pool):
        own_server.client().replicaof("127.0.0.1", 1)  # where nobody answers: it keeps its data
        pool.release("go")
        pool.wait_log(ADVICE, times=2)
    own_server.client().replicaof("NO", "ONE")
    goes_on(pool, ids)


def test_a_drain_ends_in_time(make_own_pool: Callable[..., Pool], own_server: Server) -> None:
    """What was finished is acknowledged by the next pool."""
    pool = make_own_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    own_server.client().replicaof("127.0.0.1", 1)
    pool.release("go")
    pool.wait_log(ADVICE)
    stops_in_time(pool)
    own_server.client().replicaof("NO", "ONE")
    goes_on_after_restart(pool, ids)
