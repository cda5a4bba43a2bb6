"""What a scrape of a large pool costs its exporter."""

from __future__ import annotations

import logging
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psutil

from ..ipc.cells import D, DeskState, K, P, PoolState, S, SeatState
from ..ipc.fence import boot_time
from ..ipc.ledger import BATCH_BOUNDS, HANDLER_BOUNDS, WAIT_BOUNDS, C, Histogram
from ..ipc.segment import Identity, Segment
from ..ipc.slot import Slot
from ..supervisor import exporter
from ..supervisor.gallery import One
from . import rig
from .answer import Answer, Figure, Plot, Scale

QUESTION = "What does a scrape of the metrics cost the exporter?"
METHOD = (
    "The exporter's process serves a segment of 64 slots: a live process in each, every counter and every"
    " bucket of every histogram in use, with as many events as can have a series, or a few. It is scraped"
    " over HTTP; CPU is that of its process, all threads, over all scrapes of a run. Each scrape must have"
    " all series. Between two scrapes every histogram of every slot moves, or nothing does."
)
SLOTS, FEW, ALL = 64, 3, 31
SCRAPES = 40
_NOTE = (
    "With 31 events the page has 45,000 lines. What is left is half the writing of their numbers (one format"
    " operation for each histogram), a third the reading of the segment and of /proc, the rest to send it:"
    " less than that needs a compiled writer, or fewer buckets."
)
_CURVE = (1, 4, 16, 64)
_HISTOGRAMS = (
    ("rsq_queue_wait_seconds", WAIT_BOUNDS),
    ("rsq_batch_size", BATCH_BOUNDS),
)


def _fill(slot: Slot, pid: int, events: int) -> None:
    """Let a slot look like one that has handled some millions of messages."""
    slot.seat.view[S.PID], slot.seat.view[S.STATE] = pid, SeatState.RUNNING
    slot.seat.real[S.SPAWNED] = time.monotonic()
    slot.desk.view[D.PID], slot.desk.view[D.STATE], slot.desk.view[D.CONNECTED] = pid, DeskState.IDLE, 1
    slot.desk.real[D.BOOTED] = time.monotonic()
    for counter in C:
        slot.ledger.sums.counters[counter] = 1_234_567 * (counter + 1)
    for number in range(events):
        slot.events.row(b"order.event-%d" % number)
    for histogram in _histograms(slot, events):
        for number, bound in enumerate((*histogram.bounds, 2 * histogram.bounds[-1]), 1):
            histogram.add([bound] * (number * 101))
    slot.ledger.publish()


def _histograms(slot: Slot, events: int) -> Iterator[Histogram]:
    sums = slot.ledger.sums
    yield from (sums.wait, sums.batch, *(sums.handler(row) for row in range(events + 1)))


def _handle_one_of_each(slot: Slot, events: int) -> None:
    for counter in C:
        slot.ledger.sums.counters[counter] += 1
    for histogram in _histograms(slot, events):
        histogram.add(histogram.bounds[:1])
    slot.ledger.publish()


def _rest() -> int:
    signal.pause()
    return 0


@contextmanager
def _process(run: Callable[[], int]) -> Iterator[int]:
    pid = os.fork()
    if not pid:
        try:
            os._exit(run())
        finally:
            os._exit(70)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextmanager
def _exporter(slots: int, events: int) -> Iterator[tuple[psutil.Process, int, list[Slot]]]:
    """Serve a pool of so many slots; yield the exporter's process, its port and the slots."""
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder, ExitStack() as stack:
        segment = Segment.create(Path(folder), Identity(rig.STREAM, rig.GROUP, "bench"), slots)
        for number in range(slots):
            segment.open_slot(number)
        parts = [segment.slot(number) for number in range(slots)]
        for slot in parts:
            _fill(slot, stack.enter_context(_process(_rest)), events)
        pool = segment.pool
        pool.view[P.MASTER_PID], pool.view[P.STATE], pool.view[P.WORKERS] = (
            os.getpid(),
            PoolState.RUNNING,
            slots,
        )
        pool.real[P.STARTED], pool.real[P.HEARTBEAT] = time.time(), time.monotonic()
        segment.keep.real[K.UNTIL] = boot_time() + 3600
        listener = exporter.bind("127.0.0.1:0")
        lifeline, ours = os.pipe()
        port = listener.getsockname()[1]
        _, core = rig.cores()

        def serve() -> int:
            rig.pin(core)
            os.close(ours)
            logging.disable()
            return exporter.run(One(segment), listener, lifeline)

        yield psutil.Process(stack.enter_context(_process(serve))), port, parts
        os.close(ours)
        os.close(lifeline)
        listener.close()
        segment.close()


def _scrape(port: int) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    body = connection.getresponse().read()
    connection.close()
    return body


def _check(body: bytes, pool: list[Slot], events: int) -> None:
    """Make sure that nothing is missing, and that the numbers are those of now.

    Raises:
        Void: it is not so.
    """
    text = body.decode()
    for name, bounds in (("rsq_handler_seconds", HANDLER_BOUNDS), *_HISTOGRAMS):
        rows = events + 1 if bounds is HANDLER_BOUNDS else 1
        found, wanted = text.count(f"\n{name}_bucket{{"), len(pool) * rows * (len(bounds) + 1)
        if found != wanted:
            raise rig.Void(f"{found} buckets of {name}, not {wanted}")
    for name in ("rsq_messages_handled_total", "rsq_slot_memory_bytes"):
        if text.count(f"\n{name}{{") != len(pool):
            raise rig.Void(f"not every slot has its {name}")
    said = sum(
        float(line.split()[-1]) for line in text.splitlines() if line.startswith("rsq_handler_seconds_count")
    )
    done = sum(sum(slot.ledger.sums.handler(row).read()[0]) for slot in pool for row in range(events + 1))
    if said != done:
        raise rig.Void(f"{said:.0f} handlers on the page, {done} in the segment")


def _cost(slots: int, events: int, runs: int, scrapes: int) -> tuple[list[float], list[float], int]:
    """Return CPU milliseconds of a scrape of a busy and of an idle pool, a value a run; the page's bytes."""
    busy: list[float] = []
    idle: list[float] = []
    with _exporter(slots, events) as (process, port, pool):
        for _ in range(runs):
            for found, works in ((busy, True), (idle, False)):
                body = _scrape(port)
                before = sum(process.cpu_times()[:2])
                for _ in range(scrapes):
                    if works:
                        for slot in pool:
                            _handle_one_of_each(slot, events)
                    body = _scrape(port)
                found.append((sum(process.cpu_times()[:2]) - before) / scrapes * 1000)
                _check(body, pool, events)
    return busy, idle, len(body)


def answer(scale: Scale) -> Answer:
    """Scrape pools of growing size."""
    scrapes = max(10, int(SCRAPES * scale.size))
    busy: list[float] = []
    idle: list[float] = []
    curves: dict[str, list[float]] = {"busy": [], "idle": []}
    for slots in _CURVE:
        busy, idle, size = _cost(slots, ALL, scale.runs, scrapes)
        curves["busy"] += [float(slots), statistics.median(busy)]
        curves["idle"] += [float(slots), statistics.median(idle)]
    usual, _, small = _cost(SLOTS, FEW, scale.runs, scrapes)
    return Answer(
        "scrape",
        QUESTION,
        METHOD,
        (
            Figure(f"CPU of a scrape, {SLOTS} busy slots, {FEW} events", tuple(usual), "ms", at_most=10),
            Figure(f"CPU of a scrape, {SLOTS} busy slots, {ALL} events", tuple(busy), "ms", at_most=10),
            Figure(f"CPU of a scrape, {SLOTS} idle slots, {ALL} events", tuple(idle), "ms", at_most=10),
            Figure(f"the page with {FEW} events", (small / 1e6,), "MB"),
            Figure(f"the page with {ALL} events", (size / 1e6,), "MB"),
        ),
        plots=(
            Plot("scrape", "lines", "A scrape by the size of the pool", "slots", "ms of CPU", curves,
                 ours=("busy", "idle")),
        ),
        notes=(_NOTE,),
    )  # fmt: skip
