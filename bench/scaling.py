"""A stream past one server's thread: partitions on several masters of a cluster, one pool for each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ..streams.producer import Producer
from . import cluster, rig
from .answer import Answer, Figure, Plot, Scale, Table, number, ratios

QUESTION = "Does throughput follow the number of cluster masters, with one pool per partition?"
METHOD = (
    "A cluster of 1, 2 and 3 masters on loopback TCP, one stream per master by its hash tag, 200,000 messages"
    " of 100 bytes in each, pushed by `Producer.push_many`, then handled by a pool of one worker per stream,"
    " all pools at once. There are two cores, one for all masters and one for all pools, so the clock cannot"
    " show what more masters bring: counted is the CPU that each master and worker needs per message, and"
    " from that what they could do with a core each."
)
MESSAGES = 200_000
MASTERS = (1, 2, 3)
COUNTS = ((1, 0.1), (10, 0.5), (50, 1.0), (500, 1.0))  # --batch-max, share of the messages
HEAD = ("producer", "master: XADD", "master: read, ack", "worker", "a master, messages/s")
NOTES = (
    (
        "The last column is what a master with a core of its own can take in and give out at the same time;"
        " one that only works off what is there does more."
    ),
    (
        "With an append-only file or a replica the server passes on every delivery as an XCLAIM of its own,"
        " entry by entry: that is what lowers the ceiling."
    ),
)


@dataclass(frozen=True)
class Spent:
    """What a message cost, in CPU microseconds, in one run."""

    producer_us: float
    add_us: float
    deliver_us: float
    worker_us: float
    wall_s: float

    @property
    def master_per_s(self) -> float:
        """Messages per second that a master with a core of its own can take in and give out."""
        return 1e6 / (self.add_us + self.deliver_us)


def answer(scale: Scale) -> Answer:
    """Measure clusters of all sizes in turn, then one server with all kinds of safety."""
    messages, runs = scale.messages(MESSAGES), min(scale.runs, 3)
    found: dict[int, list[Spent]] = {masters: [] for masters in MASTERS}
    with ExitStack() as stack:
        ports = {masters: stack.enter_context(cluster.cluster(masters)) for masters in MASTERS}
        for _ in range(runs):
            for masters in MASTERS:
                found[masters].append(spread(ports[masters], messages))
        held = memory(ports[1][0], messages)
        by_count = {}
        for count, share in COUNTS:
            few = max(1000, int(messages * share))
            options = ("--batch-max", str(count))
            by_count[count] = [spread(ports[1], few, *options) for _ in range(runs)]
    safe = {name: kept(words, messages, runs, replica=replica) for name, words, replica in SAFETY}
    last = found[MASTERS[-1]]
    together = {masters: [masters * one.master_per_s for one in found[masters]] for masters in MASTERS}
    return Answer(
        "scaling",
        QUESTION,
        METHOD,
        (
            Figure(
                "messages/s of 3 masters against 1, a core each",
                ratios(together[3], together[1]), "times", at_least=2.5,
            ),
            Figure(
                "worker CPU with 3 masters against 1",
                ratios([one.worker_us for one in last], [one.worker_us for one in found[1]]), "times",
                at_most=1.2,
            ),
            Figure("one master: push, read, acknowledge", tuple(together[1]), "messages/s"),
            Figure("3 masters together", tuple(together[3]), "messages/s"),
            Figure("memory of an entry of 100 bytes", (held[0],), "bytes"),
            Figure("memory of an entry that is pending, more", (held[1],), "bytes"),
            Figure("network, to the server", (held[2],), "bytes a message"),
            Figure("network, from the server", (held[3],), "bytes a message"),
            Figure("passed on to a replica or a file", (passed_on(messages),), "bytes a message"),
        ),
        (
            Table(
                "CPU per message by masters, us",
                ("masters", *HEAD),
                tuple((str(masters), *columns(found[masters])) for masters in MASTERS),
            ),
            Table(
                "CPU per message on one server by what it keeps, us",
                ("keeps", *HEAD),
                tuple((name, *columns(rows)) for name, rows in safe.items()),
            ),
            Table(
                "CPU per message on one master by the largest batch, us",
                ("--batch-max", *HEAD),
                tuple((str(count), *columns(rows)) for count, rows in by_count.items()),
            ),
        ),
        (
            Plot(
                "scaling-masters", "lines", "What cluster masters can do with a core each", "masters",
                "messages/s, pushed and handled",
                {
                    "measured": [x for m in MASTERS for x in (float(m), median(together[m]))],
                    "m times one": [x for m in MASTERS for x in (float(m), m * median(together[1]))],
                },
                ours=("measured",),
            ),
        ),
        NOTES,
    )  # fmt: skip


SAFETY: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    ("nothing", (), False),
    ("append-only file, everysec", ("--appendonly", "yes", "--appendfsync", "everysec"), False),
    ("a replica", (), True),
    ("both", ("--appendonly", "yes", "--appendfsync", "everysec"), True),
)


def columns(rows: Sequence[Spent]) -> list[str]:
    """Return medians as text."""
    kinds: tuple[Callable[[Spent], float], ...] = (
        lambda one: one.producer_us, lambda one: one.add_us, lambda one: one.deliver_us,
        lambda one: one.worker_us, lambda one: one.master_per_s,
    )  # fmt: skip
    return [number(median(kind(one) for one in rows)) for kind in kinds]


def spread(ports: Sequence[int], messages: int, *options: str) -> Spent:
    """Push into a stream on each master, handle all streams at once; return means over the masters.

    Arguments:
        options: more of the pools' command line.
    """
    masters = len(ports)
    url = "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
    streams = [cluster.partition(at, masters) for at in range(masters)]
    return measured(url, dict(zip(streams, ports, strict=True)), messages, *options)


def kept(words: Sequence[str], messages: int, runs: int, *, replica: bool) -> list[Spent]:
    """Measure one server that keeps what it is told."""
    with primary(words, replica=replica) as port:
        url = f"redis://127.0.0.1:{port}"
        return [measured(url, {rig.STREAM: port}, messages) for _ in range(runs)]


def passed_on(messages: int) -> float:
    """Return how many bytes of its replication stream a server writes for a message, from XADD to XACK."""
    with primary((), replica=True) as port:
        client = cluster.client(port)
        before = client.info("replication")["master_repl_offset"]
        measured(f"redis://127.0.0.1:{port}", {rig.STREAM: port}, messages)
        return float(client.info("replication")["master_repl_offset"] - before) / messages


@contextmanager
def primary(words: Sequence[str], *, replica: bool) -> Iterator[int]:
    """Run a server, with a replica in step if wanted; yield its port."""
    with ExitStack() as stack:
        port = stack.enter_context(cluster.node(*words))
        if replica:
            second = stack.enter_context(cluster.node("--replicaof", "127.0.0.1", str(port)))
            link = cluster.client(second)
            cluster.wait(lambda: link.info("replication")["master_link_status"] == "up")
        yield port


def measured(url: str, streams: dict[str, int], messages: int, *options: str) -> Spent:
    """Push messages into each stream, and handle them.

    Arguments:
        url: of the server or cluster.
        streams: name -> port of its master.
        messages: for each.
        options: more of the pools' command line.

    Raises:
        rig.Void: not every message was handled exactly once.
    """
    clients = {stream: cluster.client(port) for stream, port in streams.items()}
    for stream, client in clients.items():
        client.delete(stream)
        client.xgroup_create(stream, rig.GROUP, "0", mkstream=True)
    whole, before, pushing = messages * len(streams), used_s(clients), rig.cpu_s()
    for stream in streams:
        with Producer(url, stream) as producer:
            producer.push_many(rig.PAYLOAD for _ in range(messages))
    pushing = rig.cpu_s() - pushing
    between, begun = used_s(clients), time.monotonic()
    rows = pools(url, list(streams), *options)
    wall, after = time.monotonic() - begun, used_s(clients)
    for stream, client in clients.items():
        (group,) = client.xinfo_groups(stream)
        if rows[stream]["messages"] != messages or group["pending"]:
            raise rig.Void(f"{stream}: {rows[stream]} of {messages}, {group}")
    return Spent(
        pushing / whole * 1e6,
        (between - before) / whole * 1e6,
        (after - between) / whole * 1e6,
        sum(row["part_s"] for row in rows.values()) / sum(row["part"] for row in rows.values()) * 1e6,
        wall,
    )


def pools(url: str, streams: Sequence[str], *options: str) -> dict[str, dict[str, Any]]:
    """Run a pool of one worker for each stream, all at once; return what their workers said."""
    _, core = rig.cores()
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        running = []
        for at, stream in enumerate(streams):
            command = [
                sys.executable, "-m", "rsq.supervisor.cli", "--workers", "1", "--redis", url,
                "--stream", stream, "--stop-when-empty", "--runtime-dir", folder,
                "--metrics", "127.0.0.1:0", "--log-level", "error", *options, "rsq.bench.counted:noop",
            ]  # fmt: skip
            environment = {**os.environ, "RSQ_BENCH_REPORT": str(Path(folder, str(at)))}
            running.append(subprocess.Popen(command, env=environment, preexec_fn=lambda: rig.pin(core)))
        codes = [process.wait() for process in running]
        if any(codes):
            raise rig.Void(f"pools ended with {codes}")
        return {stream: json.loads(Path(folder, str(at)).read_text()) for at, stream in enumerate(streams)}


def used_s(clients: dict[str, Any]) -> float:
    """Return the CPU seconds of all masters."""
    found = [client.info("cpu") for client in clients.values()]
    return sum(float(used["used_cpu_user"]) + float(used["used_cpu_sys"]) for used in found)


def memory(port: int, messages: int) -> tuple[float, float, float, float]:
    """Return bytes of a stored entry, of a pending one on top, and of network to and from the server."""
    client = cluster.client(port)
    stream = cluster.partition(0, 1)
    client.delete(stream)
    client.xgroup_create(stream, rig.GROUP, "0", mkstream=True)
    empty, begun = client.info("memory")["used_memory"], client.info("stats")
    with Producer(f"redis+cluster://127.0.0.1:{port}", stream) as producer:
        producer.push_many(rig.PAYLOAD for _ in range(messages))
    full = client.info("memory")["used_memory"]
    pools(f"redis+cluster://127.0.0.1:{port}", [stream])
    ended = client.info("stats")
    client.xgroup_setid(stream, rig.GROUP, "0")
    while client.xreadgroup(rig.GROUP, "reader", {stream: ">"}, count=1000):
        pass
    pending = client.info("memory")["used_memory"]
    client.delete(stream)
    into, out = (ended[way] - begun[way] for way in ("total_net_input_bytes", "total_net_output_bytes"))
    return (full - empty) / messages, (pending - full) / messages, into / messages, out / messages
