"""Whether a message costs more where there is more of anything else: workers, slots, pending, history."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from ..streams import fleet, keys
from ..streams.connection import target
from ..streams.group import pack
from ..streams.marks import Mark, owner
from ..streams.wire import Wire
from . import rig
from .answer import Answer, Figure, Plot, Scale, Table, number

QUESTION = "Does a message cost more with more workers, slots, pending entries, or a longer stream?"
METHOD = (
    "Every point has a server of its own, filled beforehand; all servers share a core, the pool has the"
    " other. A run handles 100,000 new messages of 100 bytes, with many workers 5,000 for each, or what"
    " rests, with a no-op handler, everything on; then they are deleted again. The points are run in turn,"
    " up to three times, and the cheapest run of each counts, for what else the machine does can only add;"
    " what rests at the own consumer is run once, the small points several times and their mean taken."
    " Worker CPU counts from the first message to the last, with entries resting from before recovery to"
    " the end of the process; of many workers it is the sum. Server CPU is all that it used meanwhile."
    " Processes that share a core cost each other time, so many workers are compared with as many raw loops."
)
MESSAGES = 100_000
EACH = 5000  # messages for every worker, where there are many
MOST = 1.2  # a cost that does not grow, and the noise of a shared machine
INSTANCE = "bench"
NOTES = (
    (
        "Entries that rest are claimed before they are handled, with scripts that look first: each costs"
        " several times what a new one costs, however many there are."
    ),
    (
        "A worker looks at all that is pending under its own name before it begins: about three seconds of"
        " CPU with a million. Of what it holds by itself there are some thousands at most."
    ),
)
_FOREVER_MS = 10**9
_PAGE = 1000
_ADD = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'data', ARGV[2]) end"
_DELETE = """
local rows = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1000)
local ids = {}
for i, row in ipairs(rows) do ids[i] = row[1] end
return #ids > 0 and redis.call('XDEL', KEYS[1], unpack(ids)) or 0
"""


@dataclass(frozen=True)
class Spent:
    """What one run cost, in CPU microseconds per message, and in seconds for all but the workers.

    Arguments:
        raw_us: of as many raw loops as there were workers; zero where it was not asked for.
    """

    worker_us: float
    server_us: float
    others_s: float
    raw_us: float


@dataclass
class Point:
    """One server and one pool at one place of a curve.

    Arguments:
        x: how many of what the curve is about.
        url: of the server.
        folder: runtime directory, kept from run to run.
        messages: new ones in each run.
        workers: of the pool.
        resting: entries that rest at the own consumer before each run.
        times: runs in a turn.
        raw: let raw loops do the same, as many as there are workers.
        spent: a mean for each turn.
    """

    x: int
    url: str
    folder: str
    messages: int
    workers: int = 1
    resting: int = 0
    times: int = 1
    raw: bool = False
    spent: list[Spent] = field(default_factory=list)

    def turn(self) -> None:
        """Measure once more.

        Raises:
            rig.Void: not every message was handled exactly once.
        """
        runs = [self._run() for _ in range(self.times)]
        self.spent.append(Spent(*(sum(column) / self.times for column in zip(*runs, strict=True))))

    def _run(self) -> tuple[float, float, float, float]:
        client: Any = redis.Redis.from_url(self.url)
        last, wanted = client.xinfo_stream(rig.STREAM)["last-generated-id"], self.messages + self.resting
        add(client, wanted)
        if self.resting:
            read(self.url, keys.consumer(INSTANCE, 0), self.resting, rest=True)
        server, others, rows = self._pool(client)
        handled, kept = sum(row["messages"] for row in rows), self._own(client)
        if handled != wanted or kept:
            raise rig.Void(f"{handled} messages of {wanted} were handled, {kept} are pending")
        delete(client, last)
        worker: float = sum(row["cpu_s" if self.resting else "part_s"] for row in rows)
        alone = handled if self.resting else sum(row["part"] for row in rows)
        return worker / alone * 1e6, server / handled * 1e6, others, self._raw(client) if self.raw else 0.0

    def _raw(self, client: Any) -> float:
        """Return CPU microseconds of raw loops per message."""
        last = client.xinfo_stream(rig.STREAM)["last-generated-id"]
        add(client, self.messages)
        command = [sys.executable, "-m", "rsq.bench.crowd", self.url, str(self.workers)]
        said = subprocess.run(command, preexec_fn=pin, stdout=subprocess.PIPE, check=True).stdout
        rows = [json.loads(line) for line in said.splitlines()]
        handled: int = sum(row["messages"] for row in rows)
        if handled != self.messages:
            raise rig.Void(f"raw loops handled {handled} messages of {self.messages}")
        delete(client, last)
        used: float = sum(row["cpu_s"] for row in rows)
        return used / handled * 1e6

    def _pool(self, client: Any) -> tuple[float, float, list[dict[str, Any]]]:
        """Run the pool until the stream is empty; return CPU of server and helpers, and the workers' rows."""
        report = Path(self.folder, "report")
        report.unlink(missing_ok=True)
        before, children = server_s(client), resource.getrusage(resource.RUSAGE_CHILDREN)
        pool(self.url, self.folder, self.workers, report)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = [json.loads(line) for line in report.read_text().splitlines()]
        whole = used.ru_utime + used.ru_stime - children.ru_utime - children.ru_stime
        return server_s(client) - before, whole - sum(row["cpu_s"] for row in rows), rows

    def _own(self, client: Any) -> int:
        """Return how many entries the pool has pending."""
        rows = client.xinfo_consumers(rig.STREAM, rig.GROUP)
        return sum(row["pending"] for row in rows if row["name"].startswith(f"{INSTANCE}:".encode()))


@dataclass(frozen=True)
class Curve:
    """Points that differ in one thing."""

    name: str
    title: str
    x: str
    points: list[Point]

    def turn(self, number: int) -> None:
        """Measure all points once more; a curve whose points take long has one turn."""
        for point in self.points:
            if not number or not point.resting:
                point.turn()


def server_s(client: Any) -> float:
    """Return the CPU seconds that a server has used."""
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def pool(url: str, folder: str, workers: int, report: Path) -> None:
    """Run a pool until the stream is empty."""
    command = [
        sys.executable, "-m", "rsq.supervisor.cli", "--workers", str(workers), "--redis", url,
        "--instance", INSTANCE, "--stop-when-empty", "--runtime-dir", folder, "--metrics", "127.0.0.1:0",
        "--log-level", "error", "rsq.bench.counted:noop",
    ]  # fmt: skip
    environment = {**os.environ, "RSQ_BENCH_REPORT": str(report)}
    subprocess.run(command, env=environment, preexec_fn=pin, check=True)


def pin() -> None:
    """Move this process to the core of what is measured."""
    rig.pin(rig.cores()[1])


def delete(client: Any, last: str) -> None:
    """Delete all entries behind one."""
    while client.eval(_DELETE, 1, rig.STREAM, last):
        pass


def add(client: Any, messages: int) -> None:
    """Add messages of 100 bytes, quickly."""
    body = json.dumps(rig.PAYLOAD, separators=(",", ":"))
    for at in range(0, messages, 10_000):
        client.eval(_ADD, 1, rig.STREAM, min(10_000, messages - at), body)


def read(url: str, consumer: str, count: int, *, rest: bool) -> None:
    """Let a consumer have the next entries pending.

    Arguments:
        rest: they lie as if they had been handed back, never started.
    """
    wire = Wire(target(url), "bench", 60.0)
    for at in range(0, count, _PAGE):
        words = ("GROUP", rig.GROUP, consumer, "COUNT", min(_PAGE, count - at), "STREAMS", rig.STREAM, ">")
        wire.send(pack("XREADGROUP", *words))
        _, reply = wire.receive(time.monotonic() + 60)
        if rest:
            ids = [entry for entry, _ in reply[0][1]]
            who, options = owner(consumer, Mark.RESTING), ("RETRYCOUNT", 0, "JUSTID")
            wire.send(pack("XCLAIM", rig.STREAM, rig.GROUP, who, 0, *ids, *options))
            wire.receive(time.monotonic() + 60)
    wire.close()


def elsewhere(url: str, client: Any, count: int) -> None:
    """Let eight busy slots of eight living instances have entries pending."""
    add(client, count)
    for host in (f"other-{n}" for n in range(8)) if count else ():
        client.set(keys.lease(rig.STREAM, rig.GROUP, host), f"1 x {host}", px=_FOREVER_MS)
        slots = dict.fromkeys(range(8), fleet.BUSY)
        said = fleet.Report(host, 1, "0", time.time(), time.time(), 15.0, slots)
        client.hset(keys.instances(rig.STREAM, rig.GROUP), host, said.encode())
        for slot in range(8):
            read(url, keys.consumer(host, slot), -(-count // 64), rest=False)


def history(client: Any, count: int) -> None:
    """Let the group be done with so many entries that are still in the stream."""
    add(client, count)
    client.xgroup_setid(rig.STREAM, rig.GROUP, "$")


def curves(scale: Scale, stack: ExitStack, wanted: Sequence[str]) -> Iterator[Curve]:
    """Fill a server for every point of the curves wanted."""
    few = scale.messages(MESSAGES)

    def point(
        x: int,
        fill: Callable[[str, Any], None] = lambda *_: None,
        messages: int = few,
        workers: int = 1,
        resting: int = 0,
        times: int = 1,
        raw: bool = False,
    ) -> Point:
        url = stack.enter_context(rig.server())
        client: Any = redis.Redis.from_url(url)
        client.xgroup_create(rig.STREAM, rig.GROUP, "0", mkstream=True)
        fill(url, client)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rsq-bench-"))
        return Point(x, url, folder, messages, workers, resting, times, raw)

    def slots(x: int) -> Point:
        made = point(x)
        pool(made.url, made.folder, x, Path(made.folder, "unused"))
        return made

    sizes = {
        "workers": (1, 4, 16, 64),
        "slots": (1, 8, 64),
        "elsewhere": tuple(scale.messages(n) if n else 0 for n in (0, 1000, 100_000, 1_000_000)),
        "own": tuple(scale.messages(n) for n in (20_000, 100_000, 1_000_000)),
        "length": tuple(scale.messages(n) for n in (10_000, 100_000, 1_000_000, 5_000_000)),
    }
    each = scale.messages(EACH)
    makers: dict[str, tuple[str, str, Callable[[int], Point]]] = {
        "workers": (
            "Workers of the pool", "workers",
            lambda x: point(x, workers=x, messages=max(few, each * x), raw=True),
        ),
        "slots": ("Slots in the segment, one worker at work", "slots that were ever used", slots),
        "elsewhere": (
            "Entries pending at other consumers", "entries pending elsewhere",
            lambda x: point(x, lambda url, client: elsewhere(url, client, x)),
        ),
        "own": (
            "Entries resting at the own consumer", "entries resting at the start",
            lambda x: point(x, resting=x, messages=0, times=max(1, scale.messages(100_000) // x)),
        ),
        "length": (
            "Entries that are already in the stream", "entries",
            lambda x: point(x, lambda _, client: history(client, x)),
        ),
    }  # fmt: skip
    for name in wanted:
        title, words, maker = makers[name]
        yield Curve(name, title, words, [maker(x) for x in sizes[name]])


ALL = ("workers", "slots", "elsewhere", "own", "length")


def answer(scale: Scale, wanted: Sequence[str] = ALL) -> Answer:
    """Measure all points in turn."""
    with ExitStack() as stack:
        made = list(curves(scale, stack, wanted))
        for number in range(min(scale.runs, 3)):
            for curve in made:
                curve.turn(number)
    return Answer(
        "growth",
        QUESTION,
        METHOD,
        tuple(figure for curve in made for figure in figures(curve)),
        tuple(table(curve) for curve in made),
        tuple(plot(curve) for curve in made),
        NOTES,
    )


def figures(curve: Curve) -> Iterator[Figure]:
    """Yield for worker and server what the largest point costs over what the smallest costs."""
    first, last = curve.points[0], curve.points[-1]
    grown = {who: least(last, cost) / least(first, cost) for who, cost in costs(curve).items()}
    if "raw loops" in grown:
        # Many processes on one core cost each other time: ours may cost no more of it than the bare loops do.
        what = f"worker CPU: {last.x:,} over {first.x:,} {curve.x}, against as many raw loops"
        yield Figure(what, (grown["worker"] / grown.pop("raw loops"),), "times", at_most=MOST)
        del grown["worker"]
    for who, value in grown.items():
        what = f"{who} CPU: {last.x:,} over {first.x:,} {curve.x}"
        yield Figure(what, (value,), "times", at_most=MOST)


def costs(curve: Curve) -> dict[str, Callable[[Spent], float]]:
    """Return what a curve shows of a message, in microseconds."""
    shown: dict[str, Callable[[Spent], float]] = {
        "worker": lambda spent: spent.worker_us,
        "server": lambda spent: spent.server_us,
    }
    return {**shown, "raw loops": lambda spent: spent.raw_us} if curve.points[0].raw else shown


def least(point: Point, cost: Callable[[Spent], float]) -> float:
    """Return the cheapest of the turns at a point."""
    return min(cost(spent) for spent in point.spent)


def table(curve: Curve) -> Table:
    """Return all points."""
    shown = costs(curve)
    rows = [
        (
            f"{point.x:,}",
            *(number(least(point, cost)) for cost in shown.values()),
            number(least(point, lambda spent: spent.others_s)),
        )
        for point in curve.points
    ]
    head = (curve.x, *(f"{who}, us a message" for who in shown), "master, keeper, exporter, start: s")
    return Table(curve.title, head, tuple(rows))


def plot(curve: Curve) -> Plot:
    """Return the curve of all."""
    series = {
        who: [x for point in curve.points for x in (float(point.x), least(point, cost))]
        for who, cost in costs(curve).items()
    }
    return Plot(
        f"growth-{curve.name}", "lines", curve.title, curve.x, "CPU, us a message", series,
        log_x=True, ours=("worker",),
    )  # fmt: skip
