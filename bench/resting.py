"""What it costs the server to let entries rest, to take them into hand, to lend and to hand them over."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from ..streams import keys, lease
from ..streams.connection import target
from ..streams.group import SCRIPT_MAX, Group, pack
from ..streams.lending import Lending, rows
from ..streams.sweeping import Claim, Steps, Target
from ..streams.wire import Wire
from ..supervisor.lending import deal
from ..supervisor.sweep import PAGE
from . import rig
from .answer import Answer, Figure, Scale, Table

QUESTION = "What does it cost the server to move entries that nobody has in hand?"
METHOD = (
    "500 entries of a slot are handed back, taken into hand, lent to eight slots and taken back, and at last"
    " handed over to another host by the leader, each in the parts that a pool sends. Meanwhile so many"
    " entries are pending in the group. The time is the CPU of the server's main thread, as the kernel"
    " accounts it, so that other work of the machine is not in it: of all these scripts together, and of the"
    " longest. Every server that is found: those on the PATH and those that RSQ_TEST_SERVERS lists, or else"
    " the embedded one. The median of some rounds."
)
ENTRIES, SLOTS, EACH = 500, 8, 1000
PENDING = (1_000, 32_000, 200_000)
WHOLE_MS, COMMAND_MS = 10.0, 5.0
STEPS = ("handed back", "taken into hand", "lent", "handed over")
_FOREVER_MS = 10**9
_ADD = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'data', ARGV[2]) end"


@dataclass(slots=True)
class Spent:
    """What the steps of some rounds took, in ms of the server.

    Arguments:
        steps: step -> a value per round.
        longest: the longest command of each round.
    """

    steps: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    longest: list[float] = field(default_factory=list)


class Bench:
    """A group with much pending, and 500 entries that go round in it."""

    def __init__(self, url: str, pending: int) -> None:
        self.client: Any = redis.Redis.from_url(url)
        self._wire = Wire(target(url), "bench", 60.0)
        self.client.flushall()
        self.client.xgroup_create(rig.STREAM, rig.GROUP, "0", mkstream=True)
        names = keys.leader(rig.STREAM, rig.GROUP), keys.epoch(rig.STREAM, rig.GROUP)
        (reply,) = self.call(lease.acquire(*names, "t", "bench", _FOREVER_MS))
        self._sweep = Steps(rig.STREAM, rig.GROUP, "dlq", 100, lease.term(reply).epoch)
        self.client.set(keys.lease(rig.STREAM, rig.GROUP, "other"), "1 x other", px=_FOREVER_MS)
        for number in range(pending // EACH):
            self._read(f"busy-{number}:0", EACH)
        self.ids = self._read("web:0", ENTRIES)
        pid = self.client.info("server")["process_id"]
        self._account = Path(f"/proc/{pid}/task/{pid}/schedstat")

    def _read(self, consumer: str, count: int) -> list[bytes]:
        self.client.eval(_ADD, 1, rig.STREAM, count, "x" * 20)
        words = ("GROUP", rig.GROUP, consumer, "COUNT", count, "STREAMS", rig.STREAM, ">")
        (reply,) = self.call(pack("XREADGROUP", *words))
        return [entry for entry, _ in reply[0][1]]

    def call(self, *commands: bytes) -> list[Any]:
        """Send commands one after the other, and return their replies."""
        found = []
        for command in commands:
            self._wire.send(command)
            found.append(self._wire.receive(time.monotonic() + 60)[1])
        return found

    def round(self, spent: Spent) -> None:
        """Let the entries go round once."""
        web, lending = Group(rig.STREAM, rig.GROUP, "web:0"), Lending(rig.STREAM, rig.GROUP)
        longest = [self._step(spent, "handed back", (web.hand_back(p) for p in _parts(self.ids, SCRIPT_MAX)))]
        longest += [self._step(spent, "taken into hand", (web.take(p) for p in _parts(self.ids, SCRIPT_MAX)))]
        time.sleep(0.01)  # what was touched just now is not lent
        held = rows(self.call(lending.held("web:0", b"-", 2 * ENTRIES))[0])
        shares = deal(held, range(1, SLOTS + 1), ENTRIES)
        lent = (lending.lend("web:0", f"web:{slot}", part) for slot, part in shares.items())
        longest += [self._step(spent, "lent", lent)]
        for slot, part in shares.items():  # what could not be lent is still at web:0
            self.call(web.take(dict.fromkeys((row.entry for row in part), 1), owner=f"web:{slot}"))
        claim, pages = Claim(b"web:0", "web", True, 0, 0), list(_parts(self.ids, PAGE))
        targets = [Target("other", number) for number in range(len(pages))]
        over = (
            self._sweep.handover(claim, list(page), to, _FOREVER_MS)
            for page, to in zip(pages, targets, strict=True)
        )
        longest += [self._step(spent, "handed over", over)]
        for page, to in zip(pages, targets, strict=True):
            self._must(web.take(page, owner=keys.consumer(to.instance, to.slot)))
        spent.longest.append(max(longest))

    def _must(self, command: bytes) -> None:
        codes = self.call(command)[0]
        if isinstance(codes, Exception) or codes.count(0) > len(codes) // 2:
            raise rig.Void(f"entries were not where they should be: {codes}")

    def _step(self, spent: Spent, step: str, commands: Iterable[bytes]) -> float:
        """Send commands; note what they took, and return the ms of the longest."""
        took: list[float] = []
        for command in list(commands):
            before = self._main_ms()
            self._must(command)
            took.append(self._main_ms() - before)
        spent.steps[step].append(sum(took))
        return max(took)

    def _main_ms(self) -> float:
        return int(self._account.read_text().split()[0]) / 1e6


def _parts(ids: Sequence[bytes], size: int) -> Iterator[dict[bytes, int]]:
    for at in range(0, len(ids), size):
        yield dict.fromkeys(ids[at : at + size], 1)


def answer(scale: Scale) -> Answer:
    """Measure each server that is found.

    Raises:
        rig.Void: entries were not where they should be.
    """
    table: list[tuple[str, ...]] = []
    whole: list[float] = []
    longest: list[float] = []
    for binary in rig.servers():
        with rig.server(binary=binary) as url:
            for pending in (max(EACH, int(number * min(1.0, scale.size))) for number in PENDING):
                bench, spent = Bench(url, pending), Spent()
                for _ in range(max(3, scale.runs)):
                    bench.round(spent)
                medians = [statistics.median(spent.steps[step]) for step in STEPS]
                whole.append(max(medians))
                longest.append(statistics.median(spent.longest))
                row = (*medians, longest[-1])
                table.append((rig.version(url), f"{pending:,}", *(f"{value:.1f}" for value in row)))
    head = ("server", "pending", *(f"{step}, ms" for step in STEPS), "longest command, ms")
    return Answer(
        "resting",
        QUESTION,
        METHOD,
        (
            Figure(
                "500 entries, the slowest of all steps and servers", (max(whole),), "ms", at_most=WHOLE_MS
            ),
            Figure("the longest command on any server", (max(longest),), "ms", at_most=COMMAND_MS),
        ),
        (Table("500 entries: the server's time, by what is pending in the group", head, tuple(table)),),
    )
