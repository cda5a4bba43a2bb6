"""What a server says of its replicas, and what is asked of one that has none."""

from __future__ import annotations

from typing import Any

from support_pool import until
from support_servers import Server
from support_topology import Node, ask, in_step

from rsq.streams.asking import Asker
from rsq.streams.connection import client, target
from rsq.streams.replication import Replication, replication


def test_replicas_and_whether_they_are_needed(own_server: Server) -> None:
    primary = Node(own_server.binary, "--repl-diskless-sync-delay", "0")
    replica = Node(own_server.binary, "--repl-diskless-sync-delay", "0")
    try:
        primary.start()
        with client(target(primary.url)) as made:
            asker = Asker(made)
            assert replication(asker) is None
            replica.start()
            ask(replica, "REPLICAOF", "127.0.0.1", primary.port)
            until(lambda: in_step(replica), "a replica in step")
            until(lambda: replication(asker) == Replication(1, guarded=False), "a replica that is known")
            ask(primary, "CONFIG", "SET", "min-replicas-to-write", 1)
            assert replication(asker) == Replication(1, guarded=True)
            untyped: Any = made
            untyped.acl_setuser("least", enabled=True, nopass=True, commands=["+role"])
            with client(target(primary.url.replace("//", "//least:any@"))) as other:
                assert replication(Asker(other)) is None
        with client(target(replica.url)) as made:
            assert replication(Asker(made)) is None
    finally:
        replica.discard()
        primary.discard()


def test_a_server_without_replicas_is_not_asked_for_more(own_server: Server) -> None:
    """What is denied would go into its log, with every check."""
    admin: Any = own_server.client()
    admin.acl_setuser("least", enabled=True, nopass=True, commands=["+role", "+ping", "+select"])
    admin.acl_log_reset()
    with client(target(f"{own_server.url.replace('//', '//least:any@')}")) as made:
        assert replication(Asker(made)) is None
    assert [row for row in admin.acl_log() if row["object"] == "info"] == []
