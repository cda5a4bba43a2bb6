"""Several servers that work together: a Redis Cluster, and a primary with replicas and sentinels.

Both look like one `Server` to a `Pool`: they have a `url` and give clients that follow the key `events`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

import redis
from redis.crc import key_slot
from support_pool import Pool, until
from support_servers import Binary, Server

from rsq.streams import connection, keys
from rsq.streams.deadletter import DeadLetters
from rsq.streams.letter import DeadLetter
from rsq.streams.producer import Producer

# A server that stands still for a moment is not dead: else a failover comes that no test has asked for, and
# undoes what was confirmed. Where one is killed, the others are told to `hurry`.
HASTY_MS, HASTY_DOWN_MS, PATIENT_MS = 1000, 500, 60_000
CALM_MS = 4000  # of a cluster: nodes hear from each other twice in this time, so it must not be too long
SLOTS = 16384
SERVICE = "main"


class Node(Server):
    """A server with options of its own."""

    def __init__(self, binary: Binary, *options: str) -> None:
        super().__init__(binary, durable=False)
        self.words = options

    def _command(self) -> list[str]:
        return [*super()._command(), *self.words]

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"


class Sentinel(Node):
    """A sentinel that watches a primary."""

    def __init__(self, binary: Binary, primary: Node) -> None:
        super().__init__(binary)
        self._conf = Path(self.directory, "sentinel.conf")
        self._conf.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {PATIENT_MS}\n"
            f"sentinel failover-timeout {SERVICE} 5000\n"
        )

    def client(self, **options: Any) -> redis.Redis:
        made = redis.Redis(host="127.0.0.1", port=self.port, protocol=2, socket_timeout=5, **options)
        self._clients.append(made)
        return made

    def _command(self) -> list[str]:
        return [str(self.binary.path), str(self._conf), "--sentinel"]

    def _answers(self, answers: tuple[bytes, ...]) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(answers)
        return False


class Topology:
    """What both have in common."""

    url: str

    def __init__(self) -> None:
        self._clients: list[redis.Redis] = []
        self._parts: list[Server] = []

    def client(self, **options: Any) -> redis.Redis:
        """A client that finds the server of the key `events`, whatever has become of it."""
        made = connection.client(connection.target(self.url).for_key("events"), **options)
        self._clients.append(made)
        return made

    def discard(self) -> None:
        """No process, no files."""
        for client in self._clients:
            client.close()
        for part in self._parts:
            part.discard()

    def _started(self, part: Server) -> None:
        self._parts.append(part)
        part.start()


class Cluster(Topology):
    """Three masters, who share the slots; the owner of `events` has a replica if asked for."""

    def __init__(self, binary: Binary, *, replica: bool = False) -> None:
        super().__init__()
        options = [  # hasty in the beginning: a cluster waits as long before it is up
            *("--cluster-enabled", "yes", "--cluster-node-timeout", str(HASTY_MS)),
            *("--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"),
        ]
        self.masters = [Node(binary, *options) for _ in range(3)]
        self.replica = Node(binary, *options) if replica else None
        nodes = [*self.masters, *([self.replica] if self.replica else [])]
        self.nodes = nodes
        self.url = "redis+cluster://" + ",".join(node.place for node in nodes)
        try:
            for node in nodes:
                self._started(node)
            self._join()
        except BaseException:
            self.discard()
            raise

    def owner(self, key: str = "events") -> Node:
        """The master that owns a key's slot, as the living nodes see it."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            if node.process is not None and (port := owner_port(node, slot)):
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody owns the slot of {key}")

    def hurry(self, node_timeout_ms: int = HASTY_MS) -> None:
        """Let nodes that do not answer be taken for dead soon."""
        for node in self.nodes:
            ask(node, "CONFIG", "SET", "cluster-node-timeout", node_timeout_ms)

    def move(self, key: str, target: Node) -> None:
        """Move the slot of a key, with its keys, as redis-cli's reshard does."""
        slot, source = key_slot(key.encode()), self.owner(key)
        ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", identity(source))
        ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", identity(target))
        while found := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 10_000, "KEYS", *found)
        self.give(key, target, source)

    def give(self, key: str, target: Node, source: Node) -> None:
        """Make one master the owner of a slot for all, and wait until nobody can be told otherwise.

        What the others have said before may be read after the order. It is believed as long as the reader
        does not know that the new owner's claim, by its epoch, is the newer one.
        """
        slot, name = key_slot(key.encode()), identity(target)
        for node in (target, source, *self.masters):
            ask(node, "CLUSTER", "SETSLOT", slot, "NODE", name)
        epoch = epochs(target)[name]
        until(
            lambda: all(
                owner_port(node, slot) == target.port and epochs(node)[name] >= epoch for node in self.nodes
            ),
            "a slot whose new owner is known to all",
        )

    def hand_over(self) -> None:
        """Let the owner of `events` and its replica change places, as CLUSTER FAILOVER does."""
        old = self.owner()
        new = next(node for node in (*self.masters, self.replica) if node and self._follows(node, old))
        until(lambda: in_step(new), "a replica in step")
        until(lambda: self._all_know(old, new), "old news")
        for last in (False, False, True):  # nodes that are not quick enough give it up after 5 s
            assert ask(new, "CLUSTER", "FAILOVER") == b"OK"
            try:
                until(lambda: self.owner() is new, "the failover", 10)
            except AssertionError:
                if last:
                    raise
            else:
                break
        until(lambda: ask(old, "ROLE")[0] == b"slave", "the old master as a replica")

    def _follows(self, node: Node, master: Node) -> bool:
        role = ask(node, "ROLE")
        return bool(role[0] == b"slave" and role[2] == master.port)

    def _all_know(self, master: Node, replica: Node) -> bool:
        """Tell whether all nodes take one for the replica of the other: else it gets no vote or no ear."""
        wanted = [identity(replica), identity(master)]
        views = [ask(node, "CLUSTER", "NODES").decode().splitlines() for node in self.nodes]
        return all(any([row.split()[0], row.split()[3]] == wanted for row in view) for view in views)

    def _join(self) -> None:
        for number, node in enumerate(self.nodes):
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            ask(node, "CLUSTER", "MEET", "127.0.0.1", self.masters[0].port)
        for number, node in enumerate(self.masters):
            slots = range(SLOTS * number // 3, SLOTS * (number + 1) // 3)
            ask(node, "CLUSTER", "ADDSLOTS", *slots)
        size = len(self.nodes)
        for node in self.nodes:
            until(partial(says, node, f"cluster_known_nodes:{size}"), "a cluster where all know all")
            until(partial(says, node, "cluster_state:ok"), "a cluster that is up")
        self.hurry(CALM_MS)
        if replica := self.replica:
            owner = identity(self.owner())
            until(lambda: owner in ask(replica, "CLUSTER", "NODES").decode(), "the owner's name")
            ask(replica, "CLUSTER", "REPLICATE", owner)
            until(partial(in_step, replica), "a replica in step")


class Watched(Topology):
    """A primary with a replica, and three sentinels that know all of it."""

    def __init__(self, binary: Binary) -> None:
        super().__init__()
        self.first = Node(binary, "--repl-diskless-sync-delay", "0")
        self.second = Node(
            binary, "--replicaof", "127.0.0.1", str(self.first.port), "--repl-diskless-sync-delay", "0"
        )
        try:
            self._started(self.first)
            self._started(self.second)
            until(partial(in_step, self.second), "a replica in step")
            self.sentinels = [Sentinel(binary, self.first) for _ in range(3)]
            for sentinel in self.sentinels:
                self._started(sentinel)
            for sentinel in self.sentinels:
                until(partial(self._is_complete, sentinel), "sentinels that know all")
        except BaseException:
            self.discard()
            raise
        self.url = f"redis+sentinel://{','.join(node.place for node in self.sentinels)}/{SERVICE}/0"

    def primary(self) -> Node:
        """The server that most sentinels name."""
        ports = [int(ask(each, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1]) for each in self.sentinels]
        port = max(set(ports), key=ports.count)
        return self.first if port == self.first.port else self.second

    def hurry(self) -> None:
        """Let a primary that does not answer be taken for dead soon."""
        for each in self.sentinels:
            ask(each, "SENTINEL", "SET", SERVICE, "down-after-milliseconds", HASTY_DOWN_MS)

    def _is_complete(self, sentinel: Sentinel) -> bool:
        row = flat(ask(sentinel, "SENTINEL", "MASTER", SERVICE))
        return (row["num-other-sentinels"], row["num-slaves"]) == ("2", "1")


class Everywhere(Pool):
    """A pool on a topology; its ledger is on a server of its own."""

    def __init__(
        self, topology: Topology, folder: Path, handler: str, *options: str, ledger: Server, **more: str
    ) -> None:
        super().__init__(cast("Server", topology), folder, handler, *options, ledger=ledger, **more)
        self.cluster = connection.target(topology.url).cluster

    def entries(self) -> set[str]:
        """Ids of what is in the stream."""
        rows: Any = self.redis.xrange("events")
        return {entry.decode() for entry, _ in rows}

    def dead(self) -> dict[str, DeadLetter]:
        dlq = keys.dead_letter("events", cluster=self.cluster)
        letters = DeadLetters(self.redis, "events", dlq).iterate()
        return {letter.origin_id: letter for letter in letters if isinstance(letter, DeadLetter)}


class Load:
    """Somebody who pushes all the time, one message after the other, and notes what was confirmed."""

    def __init__(self, url: str, pause_s: float = 0.002) -> None:
        self.ids: list[str] = []
        self.errors: list[Exception] = []
        self._url, self._pause_s = url, pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def wait_more(self, count: int) -> None:
        """Wait until so many more messages were confirmed."""
        goal = len(self.ids) + count
        until(lambda: len(self.ids) >= goal, f"{count} more pushed messages, after errors {self.errors}")

    def _run(self) -> None:
        with Producer(self._url) as producer:
            while not self._stop.wait(self._pause_s):
                try:
                    self.ids.append(producer.push({"n": len(self.ids)}))
                except redis.RedisError as error:
                    self.errors.append(error)


def ask(node: Server, *command: Any) -> Any:
    """The bare answer of one server."""
    kind: Any = redis.Connection
    link = kind(host="127.0.0.1", port=node.port, protocol=2, socket_timeout=20)
    try:
        link.send_command(*command)
        return link.read_response()
    finally:
        link.disconnect()


def says(node: Server, words: str) -> bool:
    return words in ask(node, "CLUSTER", "INFO").decode()


def owner_port(node: Server, slot: int) -> int:
    """Return the port of who owns a slot as one node sees it, 0 for nobody."""
    for first, last, (_, port, *_), *_ in ask(node, "CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return int(port)
    return 0


def epochs(node: Server) -> dict[str, int]:
    """Return the epoch of every node's claims as one node knows it."""
    rows = [line.split() for line in ask(node, "CLUSTER", "NODES").decode().splitlines()]
    return {row[0]: int(row[6]) for row in rows}


def in_step(replica: Server) -> bool:
    return b"connected" in ask(replica, "ROLE")


def identity(node: Server) -> str:
    return str(ask(node, "CLUSTER", "MYID").decode())


def flat(words: list[bytes]) -> dict[str, str]:
    found = [word.decode() for word in words]
    return dict(zip(found[::2], found[1::2], strict=True))
