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
from . import rig
from .answer import Answer, Figure, Plot, Scale

QUESTION = "What does a scrape of the metrics cost the exporter?"
METHOD = (
    "The exporter's process serves a segment of 64 slots: a live process in each, every counter, every bucket"
    " of every histogram, all 31 rows of events and that of messages without one in use. It is scraped over"
    " HTTP; CPU is that of its process, all threads, over all scrapes of a run. Each scrape must have all"
    " series. Between two scrapes every histogram of every slot moves, or nothing does."
)
SLOTS, EVENTS = 64, 31
SCRAPES = 40
_CURVE = (1, 4, 16, 64)
_HISTOGRAMS = (
    ("rsq_handler_seconds", EVENTS + 1, HANDLER_BOUNDS),
    ("rsq_queue_wait_seconds", 1, WAIT_BOUNDS),
    ("rsq_batch_size", 1, BATCH_BOUNDS),
)


def _fill(slot: Slot, pid: int) -> None:
    """Let a slot look like one that has handled some millions of messages."""
    slot.seat.view[S.PID], slot.seat.view[S.STATE] = pid, SeatState.RUNNING
    slot.seat.real[S.SPAWNED] = time.monotonic()
    slot.desk.view[D.PID], slot.desk.view[D.STATE], slot.desk.view[D.CONNECTED] = pid, DeskState.IDLE, 1
    slot.desk.real[D.BOOTED] = time.monotonic()
    for counter in C:
        slot.ledger.sums.counters[counter] = 1_234_567 * (counter + 1)
    for number in range(EVENTS):
        slot.events.row(b"order.event-%d" % number)
    for histogram in _histograms(slot):
        for number, bound in enumerate((*histogram.bounds, 2 * histogram.bounds[-1]), 1):
            histogram.add([bound] * (number * 101))
    slot.ledger.publish()


def _histograms(slot: Slot) -> Iterator[Histogram]:
    sums = slot.ledger.sums
    yield from (sums.wait, sums.batch, *(sums.handler(row) for row in range(EVENTS + 1)))


def _handle_one_of_each(slot: Slot) -> None:
    for counter in C:
        slot.ledger.sums.counters[counter] += 1
    for histogram in _histograms(slot):
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
def _exporter(slots: int) -> Iterator[tuple[psutil.Process, int, list[Slot]]]:
    """Serve a pool of so many slots; yield the exporter's process, its port and the slots."""
    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder, ExitStack() as stack:
        segment = Segment.create(Path(folder), Identity(rig.STREAM, rig.GROUP, "bench"), slots)
        for number in range(slots):
            segment.open_slot(number)
        parts = [segment.slot(number) for number in range(slots)]
        for slot in parts:
            _fill(slot, stack.enter_context(_process(_rest)))
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
            return exporter.run(segment, listener, lifeline)

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


def _check(body: bytes, pool: list[Slot]) -> None:
    """Make sure that nothing is missing, and that the numbers are those of now.

    Raises:
        Void: it is not so.
    """
    text = body.decode()
    for name, rows, bounds in _HISTOGRAMS:
        found, wanted = text.count(f"\n{name}_bucket{{"), len(pool) * rows * (len(bounds) + 1)
        if found != wanted:
            raise rig.Void(f"{found} buckets of {name}, not {wanted}")
    for name in ("rsq_messages_handled_total", "rsq_slot_memory_bytes"):
        if text.count(f"\n{name}{{") != len(pool):
            raise rig.Void(f"not every slot has its {name}")
    said = sum(
        float(line.split()[-1]) for line in text.splitlines() if line.startswith("rsq_handler_seconds_count")
    )
    done = sum(sum(slot.ledger.sums.handler(row).read()[0]) for slot in pool for row in range(EVENTS + 1))
    if said != done:
        raise rig.Void(f"{said:.0f} handlers on the page, {done} in the segment")


def _cost(slots: int, runs: int, scrapes: int) -> tuple[list[float], list[float], int]:
    """Return CPU milliseconds of a scrape of a busy and of an idle pool, a value a run; the page's bytes."""
    busy: list[float] = []
    idle: list[float] = []
    with _exporter(slots) as (process, port, pool):
        for _ in range(runs):
            for found, works in ((busy, True), (idle, False)):
                body = _scrape(port)
                before = sum(process.cpu_times()[:2])
                for _ in range(scrapes):
                    if works:
                        for slot in pool:
                            _handle_one_of_each(slot)
                    body = _scrape(port)
                found.append((sum(process.cpu_times()[:2]) - before) / scrapes * 1000)
                _check(body, pool)
    return busy, idle, len(body)


def answer(scale: Scale) -> Answer:
    """Scrape pools of growing size."""
    scrapes = max(10, int(SCRAPES * scale.size))
    busy: list[float] = []
    idle: list[float] = []
    curves: dict[str, list[float]] = {"busy": [], "idle": []}
    for slots in _CURVE:
        busy, idle, size = _cost(slots, scale.runs, scrapes)
        curves["busy"] += [float(slots), statistics.median(busy)]
        curves["idle"] += [float(slots), statistics.median(idle)]
    return Answer(
        "scrape",
        QUESTION,
        METHOD,
        (
            Figure("CPU of a scrape, 64 busy slots", tuple(busy), "ms", at_most=10),
            Figure("CPU of a scrape, 64 idle slots", tuple(idle), "ms", at_most=10),
            Figure("the page", (size / 1e6,), "MB"),
        ),
        plots=(
            Plot("scrape", "lines", "A scrape by the size of the pool", "slots", "ms of CPU", curves,
                 ours=("busy", "idle")),
        ),
    )  # fmt: skip
