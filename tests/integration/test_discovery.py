"""Finding the server through sentinels and nodes, of which some are dead, silent or strangers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from redis import crc
from support_producers import FACES, Make
from support_servers import Binary, found
from support_topology import PATIENT_MS, Cluster, Node, Watched, ask, identity

from rsq.streams import connection
from rsq.streams.producer import PushError


@pytest.fixture(scope="module", params=found(), ids=lambda binary: binary.name)
def binary(request: pytest.FixtureRequest) -> Binary:
    chosen: Binary = request.param
    return chosen


@pytest.fixture(scope="module")
def cluster(binary: Binary) -> Iterator[Cluster]:
    made = Cluster(binary)
    made.hurry(PATIENT_MS)  # a node that is silent for a while stays a master
    yield made
    made.discard()


@pytest.fixture(scope="module")
def watched(binary: Binary) -> Iterator[Watched]:
    made = Watched(binary)
    yield made
    made.discard()


def reached(url: str, key: str = "", timeout_s: float = 5) -> int:
    """The port of the server to which a bare connection leads."""
    link = connection.connect(connection.target(url).for_key(key), name="rsq-test", timeout_s=timeout_s)
    port: int = connection.sock(link).getpeername()[1]
    link.disconnect()  # type: ignore[no-untyped-call]
    return port


def explained(url: str, timeout_s: float = 5) -> str:
    target = connection.target(url).for_key("events")
    with pytest.raises(redis.RedisError) as caught:
        connection.connect(target, name="rsq-test", timeout_s=timeout_s)
    told = connection.explain(caught.value, target)
    assert "\n" not in told
    return told


def cluster_url(*nodes: Node) -> str:
    return "redis+cluster://" + ",".join(node.place for node in nodes)


def test_every_node_leads_to_the_owner_of_a_key(cluster: Cluster) -> None:
    owners = set()
    for key in ("a", "b", "c", "{events}:dlq", "events"):
        owner = cluster.owner(key.removeprefix("{").partition("}")[0])
        owners.add(owner.port)
        for node in cluster.masters:
            assert reached(cluster_url(node), key) == owner.port
    assert len(owners) == 3


def test_a_key_may_be_any_bytes(cluster: Cluster) -> None:
    assert reached(cluster.url, b"\xff\xfe".decode("utf-8", "surrogateescape"))


def test_dead_and_silent_nodes_are_passed_over(cluster: Cluster) -> None:
    owner = cluster.owner()
    silent, other = (node for node in cluster.masters if node is not owner)
    with silent.frozen():
        url = f"redis+cluster://127.0.0.1:1,{silent.place},{other.place}"
        assert reached(url, "events") == owner.port


def test_nodes_that_are_all_silent_end_the_search(cluster: Cluster) -> None:
    """A search as such never hangs; the line names who was asked last."""
    with ExitStack() as stack:
        for node in cluster.masters:
            stack.enter_context(node.frozen())
        told = explained(cluster.url, timeout_s=0.5)
    assert "no answer in time" in told
    assert f"node {cluster.masters[0].place}" in told or f"node {cluster.masters[-1].place}" in told
    told = explained("redis+cluster://127.0.0.1:1")
    assert "node 127.0.0.1:1: connection refused" in told


@pytest.mark.parametrize("make", FACES[:2])
def test_a_slot_that_moves_is_followed_by_clients_and_producers(cluster: Cluster, make: Make) -> None:
    """While the slot is neither here nor there a push waits; afterwards it is where the stream is."""
    target = connection.target(cluster.url).for_key("events")
    before = cluster.owner()
    after = next(node for node in cluster.masters if node is not before)
    with (
        connection.client(target) as client,
        make(cluster.url) as producer,
        make(cluster.url, timeout_s=3.0) as hasty,
        make(cluster.url, maxlen=10_000, on_full="reject") as limited,
    ):
        client.delete("events")
        producer.push({"n": 0})
        hasty.push({"n": 1})
        limited.push({"n": 1}, key=make.__name__, unique="1h")
        client.xdel("events", limited.push({"n": 1}, key=make.__name__, unique="1h"))
        cluster.move("events", after)
        assert client.xlen("events") == 2
        assert producer.push_many([{"n": n} for n in range(2000)]) == 2000
        client.xdel("events", limited.push({"n": 2}))
        assert limited.push({"n": 1}, key=make.__name__, unique="1h")  # the mark went with the stream
        assert limited.metrics.duplicates == 2
        ask(before, "CLUSTER", "SETSLOT", key_slot(), "IMPORTING", identity(after))
        ask(after, "CLUSTER", "SETSLOT", key_slot(), "MIGRATING", identity(before))
        for name in ask(after, "CLUSTER", "GETKEYSINSLOT", key_slot(), 10):
            ask(after, "MIGRATE", "127.0.0.1", before.port, name, 0, 10_000)
        with pytest.raises(PushError) as caught:
            hasty.push({"n": 2})
        assert (caught.value.pushed, caught.value.unsure) == (0, 0)
        assert "being moved" in connection.explain(caught.value.cause, target)
        cluster.give("events", before, after)
        hasty.push({"n": 3})
        assert client.xlen("events") == 2003
    assert reached(cluster.url, "events") == before.port


def key_slot() -> int:
    return int(crc.key_slot(b"events"))


def test_a_plain_url_of_a_node_is_explained(cluster: Cluster) -> None:
    other = next(node for node in cluster.masters if node is not cluster.owner())
    target = connection.target(other.tcp_url)
    with connection.client(target) as client, pytest.raises(redis.RedisError) as caught:
        client.xlen("events")
    assert "redis+cluster://" in connection.explain(caught.value, target)


def test_sentinels_name_the_primary(watched: Watched) -> None:
    assert reached(watched.url) == watched.first.port
    with watched.sentinels[0].frozen():
        assert reached(watched.url.replace("//", "//127.0.0.1:1,")) == watched.first.port


@pytest.mark.parametrize("make", FACES[:2])
def test_sentinels_lead_producers_to_the_primary(watched: Watched, make: Make) -> None:
    with make(watched.url, "mails") as producer:
        entry_id = producer.push(1)
        assert producer.push_many(range(10)) == 10
    with redis.Redis(port=watched.first.port, protocol=2) as primary:
        found: Any = primary.xrange("mails")
        assert (found[0][0].decode(), len(found)) == (entry_id, 11)
        primary.delete("mails")


def test_a_name_that_no_sentinel_knows_is_a_wrong_configuration(watched: Watched, tmp_path: Path) -> None:
    url = watched.url.replace("/main/", "/mian/")
    assert "no sentinel knows the primary under this name" in explained(url)
    tmp_path.joinpath("app.py").write_text("def handle(message):\n    pass\n")
    command = [sys.executable, "-m", "rsq.supervisor.cli", "--metrics", "off", "--redis", url, "app:handle"]
    command += ["--runtime-dir", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    (line,) = done.stderr.splitlines()
    assert "'mian'" in line
    # While one of them cannot be asked, it may be the one who knows.
    assert "connection refused" in explained(url.replace("//", "//127.0.0.1:1,"))


def test_sentinels_may_have_a_password_of_their_own(watched: Watched) -> None:
    first = watched.sentinels[0]
    url = f"redis+sentinel://{first.place}/main"
    ask(first, "ACL", "SETUSER", "asker", "on", ">s3cret", "~*", "&*", "+@all")
    ask(first, "ACL", "SETUSER", "default", "off")
    try:
        told = explained(url)
        assert f"sentinel {first.place}" in told
        assert "wants a password" in told
        with_password = f"{url}?sentinel_username=asker&sentinel_password=s3cret"
        assert reached(with_password) == watched.first.port
        told = explained(with_password.replace("s3cret", "wr0ng"))
        assert "user or password refused" in told
        assert "wr0ng" not in told
    finally:
        with redis.Redis(port=first.port, username="asker", password="s3cret", protocol=2) as again:
            again.execute_command("ACL", "SETUSER", "default", "on")


def test_a_replica_that_is_still_named_is_not_believed(watched: Watched) -> None:
    """Whoever watches a server that has become a replica has old news; the search goes on or says so."""
    lone = Node(watched.first.binary)
    lone.start()
    try:
        ask(lone, "REPLICAOF", "127.0.0.1", watched.first.port)
        sentinel = watched.sentinels[0]
        ask(sentinel, "SENTINEL", "MONITOR", "old", "127.0.0.1", lone.port, 3)
        told = explained(f"redis+sentinel://{sentinel.place}/old")
        assert f"server {lone.place}" in told
        assert "it is a slave" in told
        ask(sentinel, "SENTINEL", "REMOVE", "old")
    finally:
        lone.discard()
