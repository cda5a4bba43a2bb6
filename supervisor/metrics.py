"""The metrics: the views of pools as Prometheus samples. docs/metrics.md explains each of them.

Labels are bounded: names of the pool, slot numbers, reasons, and the few events that have a row of
their own. Never a pid, never an entry id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .. import __version__
from ..ipc.segment import Segment
from .exposition import Exposition, Templates, labels
from .gallery import Gallery
from .reading import Reader
from .view import DRAIN, PHASES, PoolView, SlotView

# Reasons of dead letters: label -> counter of the ledger.
REASONS = {
    "max_attempts": "dead_max_attempts",
    "crash": "dead_crash",
    "timeout": "dead_timeout",
    "decode_error": "dead_decode",
    "rejected": "dead_rejected",
    "unknown_event": "dead_unknown_event",
    "breaker_open": "dead_breaker",
}

# Counters of a slot: metric without _total -> (counter of the ledger, meaning).
_COUNTERS = {
    "rsq_messages_read": ("read", "Entries whose first attempt has ended."),
    "rsq_messages_handled": ("handled", "Entries whose handler returned."),
    "rsq_messages_ignored": ("ignored", "Entries of events that nobody handles here."),
    "rsq_messages_failed": ("failed", "Attempts that raised, crashed or ran too long."),
    "rsq_messages_retried": ("retried", "Failed attempts that get another one."),
    "rsq_messages_recovered": ("recovered", "Unfinished entries taken over from a predecessor."),
    "rsq_messages_lost": ("lost", "Pending entries whose data was deleted from the stream."),
    "rsq_messages_duplicates": ("duplicates", "Entries not handled: a copy of the message had been."),
    "rsq_messages_deferred": ("deferred", "Times that an entry was put off by a circuit breaker."),
    "rsq_redis_errors": ("redis_errors", "Errors of the connection to Redis or answered by it."),
    "rsq_reconnects": ("reconnects", "Connections to Redis given up."),
    "rsq_commands": ("commands", "Commands sent to Redis."),
    "rsq_groups_recreated": ("groups_recreated", "Times the consumer group was gone and created again."),
}

# Gauges of a pool: metric -> (value, meaning). None: no sample.
_POOL_GAUGES: dict[str, tuple[Callable[[PoolView], float | None], str]] = {
    "rsq_uptime_seconds": (lambda p: p.uptime_s, "Since the master started; a reload goes on with it."),
    "rsq_workers": (lambda p: p.workers, "Slots wanted."),
    "rsq_workers_least": (lambda p: p.sizes.least, "The least that a pool which scales itself may want."),
    "rsq_workers_most": (lambda p: p.sizes.most, "The most that a pool which scales itself may want."),
    "rsq_workers_by_hand": (
        lambda p: int(p.sizes.by_hand),
        "1 while an operator has set how many are wanted.",
    ),
    "rsq_workers_busy": (lambda p: p.sizes.busy, "Workers at work, smoothed."),
    "rsq_worker_rate": (lambda p: p.sizes.rate or None, "Entries per second of a busy worker."),
    "rsq_unread_entries": (
        lambda p: p.sizes.unread,
        "Entries that the group has not read, or at least so many.",
    ),
    "rsq_heartbeat_age_seconds": (lambda p: p.heartbeat_s, "Since the master's last full pass."),
    "rsq_lease_seconds": (lambda p: p.lease_s, "How long the instance lease may still be trusted."),
    "rsq_leader": (lambda p: int(p.leading), "1 while this pool leads its group."),
    "rsq_leader_epoch": (lambda p: p.leader_epoch, "Fencing token of the lead, whoever has it."),
    "rsq_paused": (lambda p: int(p.paused), "1 while the group is paused."),
}

# Gauges of a slot: metric -> (value, meaning). None: no sample.
_GAUGES: dict[str, tuple[Callable[[SlotView], float | None], str]] = {
    "rsq_in_flight": (lambda s: int(s.current is not None), "Entries in the hands of the handler."),
    "rsq_waiting_retries": (lambda s: s.waiting, "Failed entries that wait for their next attempt."),
    "rsq_deferred_entries": (
        lambda s: s.deferred,
        "Entries that wait for a circuit breaker.",
    ),
    "rsq_fetched_entries": (lambda s: s.held, "Entries fetched and not finished."),
    "rsq_slot_up": (lambda s: int(s.up), "1 while a process sits in the slot."),
    "rsq_slot_booted": (lambda s: int(s.booted), "1 once the process in the slot is ready to read."),
    "rsq_slot_memory_bytes": (lambda s: s.rss, "Resident memory of the process in the slot."),
}


_STATES = {"closed": 0, "open": 1, "half-open": 2}
_Slots = list[tuple[str, SlotView]]  # with the labels of each
_Pools = list[tuple[str, PoolView]]


class Metrics:
    """Reads segments anew for every scrape; needs nobody's help for it, and disturbs nobody."""

    def __init__(self, gallery: Gallery) -> None:
        """Show what hangs there."""
        self._gallery = gallery
        self._readers: dict[Segment, Reader] = {}
        self._templates = Templates()

    def page(self, *, openmetrics: bool = False) -> bytes:
        """Return all metrics of the pools, each of one moment, in one of the two formats."""
        pools: _Pools = []
        for _, segment in self._gallery.pools():
            if segment not in self._readers:
                self._readers[segment] = Reader(segment)
            view = self._readers[segment].snapshot()
            who = view.identity
            names = labels({"stream": who.stream, "group": who.group, "instance": who.instance})
            pools.append((names, view))
        slots: _Slots = [
            (f'{names},slot="{slot.slot}"', slot) for names, view in pools for slot in view.slots
        ]
        text = Exposition(self._templates, openmetrics=openmetrics)
        _of_pools(text, pools)
        _lost_lines(text, pools, self._gallery.lost_lines())
        _of_slots(text, slots)
        _histograms(text, slots)
        return text.page()


def _of_pools(text: Exposition, pools: _Pools) -> None:
    text.family("rsq_pool", "info", "Who this pool is.")
    text.samples("rsq_pool_info", [(f'{names},version="{__version__}"', 1) for names, _ in pools])
    for name, (value, words) in _POOL_GAUGES.items():
        _gauge(text, name, words, ((names, value(view)) for names, view in pools))
    done = ((names, view.generation) for names, view in pools)
    _counter(text, "rsq_reloads", "Reloads to new code.", done)
    failed = ((names, view.reloads_failed) for names, view in pools)
    _counter(text, "rsq_reloads_failed", "Reloads that kept the old code.", failed)
    changes = (
        (f'{names},reason="{why}"', count)
        for names, view in pools
        for why, count in view.sizes.changes.items()
    )
    _counter(text, "rsq_scalings", "Changes of the number of slots wanted.", changes)
    changed = (
        (f'{names},reason="{why}"', when) for names, view in pools for why, when in view.sizes.changed.items()
    )
    _gauge(text, "rsq_last_scaling_timestamp_seconds", "When that number was last changed.", changed)
    breakers = [
        (f"{names},{labels({'event': event})}", _STATES.get(one.state, 1), one.opened)
        for names, view in pools
        for event, one in view.breakers.items()
    ]
    words = "Circuit breakers: 0 closed, 1 open, 2 half open."
    _gauge(text, "rsq_breaker_state", words, ((where, state) for where, state, _ in breakers))
    words = "Times that a circuit breaker has opened, in the whole fleet."
    _counter(text, "rsq_breaker_openings", words, ((where, opened) for where, _, opened in breakers))
    swept = ((f'{names},what="{what}"', count) for names, view in pools for what, count in view.swept.items())
    _counter(text, "rsq_swept", "What sweeps have done to the group.", swept)
    errors = (
        (f'{names},part="{part}"', count) for names, view in pools for part, count in view.errors.items()
    )
    _counter(text, "rsq_keeper_errors", "Errors that a keeper met in a part of its work.", errors)


def _lost_lines(text: Exposition, pools: _Pools, above: Mapping[str, int]) -> None:
    samples = [
        (f'{names},process="{process}"', count)
        for names, view in pools
        for process, count in view.lost_lines.items()
    ]
    samples += [(f'process="{process}"', count) for process, count in above.items()]
    words = "Lines of the log that were dropped because nobody read it or it could not be written."
    _counter(text, "rsq_log_lines_dropped", words, samples)


def _of_slots(text: Exposition, slots: _Slots) -> None:
    for name, (counter, words) in _COUNTERS.items():
        _counter(text, name, words, ((where, slot.counters[counter]) for where, slot in slots))
    dead = (
        (f'{where},reason="{reason}"', slot.counters[counter])
        for where, slot in slots
        for reason, counter in REASONS.items()
    )
    _counter(text, "rsq_messages_dead_lettered", "Entries moved to the dead letters.", dead)
    restarts = (
        (f'{where},reason="{reason}"', count)
        for where, slot in slots
        for reason, count in slot.restarts.items()
    )
    _counter(text, "rsq_restarts", "Processes of the slot that have ended.", restarts)
    dropped = ((where, slot.dropped) for where, slot in slots)
    _counter(text, "rsq_events_dropped", "Reports of failures that did not fit into the pipe.", dropped)
    anew = ((where, slot.set_aside) for where, slot in slots)
    words = "Times that the slot's shared memory made no sense and was begun anew."
    _counter(text, "rsq_slot_memory_set_aside", words, anew)
    lent = ((where, slot.lent) for where, slot in slots)
    words = "Entries that waited behind a long one and were lent to other slots."
    _counter(text, "rsq_messages_lent", words, lent)
    phases = (
        (f'{where},phase="{phase}"', slot.phase_s if slot.phase == phase else 0.0)
        for where, slot in slots
        for phase in (*PHASES.values(), DRAIN)
    )
    words = "How long the process in the slot has been starting, draining or ending; 0 in other phases."
    _gauge(text, "rsq_slot_phase_seconds", words, phases)
    used = ((where, slot.cpu_s) for where, slot in slots)
    _counter(text, "rsq_slot_cpu_seconds", "CPU time of the process in the slot.", used)
    for name, (value, words) in _GAUGES.items():
        _gauge(text, name, words, ((where, value(slot)) for where, slot in slots))


def _counter(text: Exposition, name: str, words: str, samples: Iterable[tuple[str, float | None]]) -> None:
    text.family(name, "counter", words)
    text.samples(f"{name}_total", ((where, value) for where, value in samples if value is not None))


def _gauge(text: Exposition, name: str, words: str, samples: Iterable[tuple[str, float | None]]) -> None:
    text.family(name, "gauge", words)
    text.samples(name, ((where, value) for where, value in samples if value is not None))


def _histograms(text: Exposition, slots: _Slots) -> None:
    name = "rsq_handler_seconds"
    text.family(name, "histogram", "Seconds in the handler, per event.")
    for where, slot in slots:
        for event, counts in slot.handlers.items():
            text.histogram(name, where, counts, event)
    name = "rsq_queue_wait_seconds"
    text.family(name, "histogram", "From the time in the entry id to the start of the first attempt.")
    for where, slot in slots:
        if slot.wait is not None:
            text.histogram(name, where, slot.wait)
    name = "rsq_batch_size"
    text.family(name, "histogram", "Entries per batch.")
    for where, slot in slots:
        if slot.batch is not None:
            text.histogram(name, where, slot.batch)
