"""The metrics: a pool's view as Prometheus samples. docs/metrics.md explains each of them.

Labels are bounded: names of the pool, slot numbers, reasons, and the few events that have a row of
their own. Never a pid, never an entry id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from .. import __version__
from ..ipc.segment import Segment
from .reading import snapshot
from .view import Counts, PoolView, SlotView

__all__ = ["REASONS", "Counts", "PoolCollector", "PoolView", "SlotView", "snapshot"]

POOL = ("stream", "group", "instance")
SLOT = (*POOL, "slot")

# Reasons of dead letters: label -> counter of the ledger.
REASONS = {
    "max_attempts": "dead_max_attempts",
    "crash": "dead_crash",
    "timeout": "dead_timeout",
    "decode_error": "dead_decode",
    "rejected": "dead_rejected",
}

# Counters of a slot: metric without _total -> (counter of the ledger, meaning).
_COUNTERS = {
    "rsq_messages_read": ("read", "Entries whose first attempt has ended."),
    "rsq_messages_handled": ("handled", "Entries whose handler returned."),
    "rsq_messages_failed": ("failed", "Attempts that raised, crashed or ran too long."),
    "rsq_messages_retried": ("retried", "Failed attempts that get another one."),
    "rsq_messages_recovered": ("recovered", "Unfinished entries taken over from a predecessor."),
    "rsq_messages_lost": ("lost", "Pending entries whose data was deleted from the stream."),
    "rsq_redis_errors": ("redis_errors", "Errors of the connection to Redis or answered by it."),
    "rsq_reconnects": ("reconnects", "Connections to Redis given up."),
    "rsq_commands": ("commands", "Commands sent to Redis."),
    "rsq_groups_recreated": ("groups_recreated", "Times the consumer group was gone and created again."),
}

# Gauges of a slot: metric -> (value, meaning). None: no sample.
_GAUGES: dict[str, tuple[Callable[[SlotView], float | None], str]] = {
    "rsq_in_flight": (lambda s: s.current is not None, "Entries in the hands of the handler."),
    "rsq_waiting_retries": (lambda s: s.waiting, "Failed entries that wait for their next attempt."),
    "rsq_fetched_entries": (lambda s: s.held, "Entries fetched and not finished."),
    "rsq_slot_up": (lambda s: s.up, "1 while a process sits in the slot."),
    "rsq_slot_booted": (lambda s: s.booted, "1 once the process in the slot is ready to read."),
    "rsq_slot_memory_bytes": (lambda s: s.rss, "Resident memory of the process in the slot."),
}


class PoolCollector(Collector):
    """Reads a segment anew for every scrape; needs nobody's help for it, and disturbs nobody."""

    def __init__(self, segment: Segment) -> None:
        """Collect from an open segment."""
        self._segment = segment
        self._version = __version__

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the pool, of one moment."""
        view = snapshot(self._segment)
        names = (view.identity.stream, view.identity.group, view.identity.instance)
        yield from _of_pool(view, names, self._version)
        slots: _Slots = [((*names, str(slot.slot)), slot) for slot in view.slots]
        yield from _of_slots(slots)
        yield from _histograms(slots)


_Slots = list[tuple[tuple[str, ...], SlotView]]


def _of_pool(view: PoolView, names: tuple[str, ...], release: str) -> Iterator[Metric]:
    info = InfoMetricFamily("rsq_pool", "Who this pool is.", labels=())
    info.add_metric((), dict(zip((*POOL, "version"), (*names, release), strict=True)))
    yield info
    gauges = {
        "rsq_uptime_seconds": (view.uptime_s, "Since the master started; a reload goes on with it."),
        "rsq_workers": (view.workers, "Slots wanted."),
        "rsq_heartbeat_age_seconds": (view.heartbeat_s, "Since the master's last full pass."),
        "rsq_lease_seconds": (view.lease_s, "How long the instance lease may still be trusted."),
        "rsq_leader": (view.leading, "1 while this pool leads its group."),
        "rsq_leader_epoch": (view.leader_epoch, "Fencing token of the lead, whoever has it."),
        "rsq_paused": (view.paused, "1 while the group is paused."),
    }
    for name, (value, words) in gauges.items():
        gauge = GaugeMetricFamily(name, words, labels=POOL)
        gauge.add_metric(names, float(value))
        yield gauge
    counters = {
        "rsq_reloads": (view.generation, "Reloads to new code."),
        "rsq_reloads_failed": (view.reloads_failed, "Reloads that kept the old code."),
    }
    for name, (value, words) in counters.items():
        counter = CounterMetricFamily(name, words, labels=POOL)
        counter.add_metric(names, value)
        yield counter
    swept = CounterMetricFamily("rsq_swept", "What sweeps have done to the group.", labels=(*POOL, "what"))
    for what, count in view.swept.items():
        swept.add_metric((*names, what), count)
    yield swept


def _of_slots(slots: _Slots) -> Iterator[Metric]:
    for name, (counter, words) in _COUNTERS.items():
        yield _counter(name, words, ((labels, slot.counters[counter]) for labels, slot in slots))
    dead = CounterMetricFamily(
        "rsq_messages_dead_lettered", "Entries moved to the dead letters.", labels=(*SLOT, "reason")
    )
    restarts = CounterMetricFamily(
        "rsq_restarts", "Processes of the slot that have ended.", labels=(*SLOT, "reason")
    )
    for labels, slot in slots:
        for reason, counter in REASONS.items():
            dead.add_metric((*labels, reason), slot.counters[counter])
        for reason, count in slot.restarts.items():
            restarts.add_metric((*labels, reason), count)
    yield dead
    yield restarts
    yield _counter(
        "rsq_events_dropped",
        "Reports of failures that did not fit into the pipe.",
        ((labels, slot.dropped) for labels, slot in slots),
    )
    yield _counter(
        "rsq_messages_lent",
        "Entries that waited behind a long one and were lent to other slots.",
        ((labels, slot.lent) for labels, slot in slots),
    )
    yield _counter(
        "rsq_slot_cpu_seconds",
        "CPU time of the process in the slot.",
        ((labels, slot.cpu_s) for labels, slot in slots),
    )
    for name, (value, words) in _GAUGES.items():
        gauge = GaugeMetricFamily(name, words, labels=SLOT)
        for labels, slot in slots:
            number = value(slot)
            if number is not None:
                gauge.add_metric(labels, float(number))
        yield gauge


def _counter(name: str, words: str, samples: Iterable[tuple[tuple[str, ...], float | None]]) -> Metric:
    metric = CounterMetricFamily(name, words, labels=SLOT)
    for labels, number in samples:
        if number is not None:
            metric.add_metric(labels, number)
    return metric


def _histograms(slots: _Slots) -> Iterator[Metric]:
    handler = HistogramMetricFamily(
        "rsq_handler_seconds", "Seconds in the handler, per event.", labels=(*SLOT, "event")
    )
    wait = HistogramMetricFamily(
        "rsq_queue_wait_seconds",
        "From the time in the entry id to the start of the first attempt.",
        labels=SLOT,
    )
    batch = HistogramMetricFamily("rsq_batch_size", "Entries per batch.", labels=SLOT)
    for labels, slot in slots:
        for event, counts in slot.handlers.items():
            _add(handler, (*labels, event), counts)
        if slot.wait is not None and slot.batch is not None:
            _add(wait, labels, slot.wait)
            _add(batch, labels, slot.batch)
    yield from (handler, wait, batch)


def _add(metric: HistogramMetricFamily, labels: tuple[str, ...], counts: Counts) -> None:
    bounds = (*(str(float(bound)) for bound in counts.bounds), "+Inf")
    metric.add_metric(labels, list(zip(bounds, accumulate(counts.buckets), strict=True)), counts.total)
