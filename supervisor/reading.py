"""Reading: from the bytes of a segment to a view of the pool. Writes nothing, disturbs nobody.

Nothing here trusts what it reads: a writer may have died in the middle of a store, a file may be of
yesterday. Whatever the bytes are, there is an answer, and no page is touched that was never promised
(see `Segment.used`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import time
from enum import IntEnum

import psutil

from ..ipc.cells import D, DeskState, K, P, PoolState, S, SeatState, W
from ..ipc.fence import Fence
from ..ipc.journal import ID_MAX, Outcome
from ..ipc.ledger import EVENTS_MAX, HANDLER_BOUNDS, Histogram, Sums
from ..ipc.segment import Identity, Segment
from ..ipc.slot import Slot
from ..worker.tally import count_outcomes
from .horizon import STALE_S
from .printable import printable
from .process import Process, find
from .view import (
    CAUSES,
    COUNTERS,
    DRAIN,
    FRESH_S,
    PARTS,
    PHASES,
    SWEPT,
    WHYS,
    BreakerView,
    Counts,
    Current,
    PoolView,
    Sizes,
    SlotView,
)

OTHER = "other"  # the event that stands for all without a row of their own
_TRIES = 100
# What a dead letter's outcome is until the letter is known to be written: it may still be held back.
_SURE = (Outcome.DONE, Outcome.WAITING, Outcome.LOST, Outcome.DUPLICATE, Outcome.IGNORED, Outcome.DEFERRED)
_NOT_YET = bytes(code if code in _SURE else Outcome.HELD_BACK for code in range(256))


def snapshot(segment: Segment, now: float | None = None, epoch: float | None = None) -> PoolView:
    """Return what a segment says; see `Reader.snapshot`."""
    return Reader(segment).snapshot(now, epoch)


class Reader:
    """Looks at a segment again and again: what cannot have changed is not made anew."""

    def __init__(self, segment: Segment) -> None:
        """Look at a segment that is open for reading or writing; it is never written to."""
        self._segment = segment
        self._slots: dict[int, Slot] = {}
        self._processes: dict[int, Process] = {}

    def snapshot(self, now: float | None = None, epoch: float | None = None) -> PoolView:
        """Return what the segment says.

        Arguments:
            now: CLOCK_MONOTONIC in seconds, None for the present.
            epoch: seconds since 1970 at the same moment, None for the present.
        """
        segment = self._segment
        for number in range(segment.capacity):
            if number not in self._slots and segment.used(number):
                self._slots[number] = segment.slot(number)
        now = time.monotonic() if now is None else now
        epoch = time.time() if epoch is None else epoch
        view, real = segment.pool.view, segment.pool.real
        workers = segment.wanted
        wanted = [n for n in range(segment.capacity) if n < workers or n in self._slots]
        started, beat = _number(real[P.STARTED]), _number(real[P.HEARTBEAT])
        uptime = max(0.0, epoch - started) if started else 0.0
        window = int(min(60.0, max(1.0, uptime)))  # a pool of ten seconds has no minute to average over
        age = now - beat if 0 < beat <= now + 1 else math.inf
        return PoolView(
            identity=Identity(
                *map(label, (segment.identity.stream, segment.identity.group, segment.identity.instance))
            ),
            state=_pool_state(view[P.STATE], view[P.MASTER_PID], started, age),
            workers=workers,
            master=view[P.MASTER_PID],
            uptime_s=uptime,
            heartbeat_s=max(0.0, age),
            generation=view[P.GENERATION],
            reloads_failed=view[P.RELOADS_FAILED],
            exporter=view[P.EXPORTER_PID] or None,
            port=view[P.METRICS_PORT] or None,
            slots=tuple(
                self._slot_view(n, now, epoch, window) if n in self._slots else SlotView(n) for n in wanted
            ),
            keeper=segment.keep.view[K.PID] or None,
            lease_s=max(0.0, _number(Fence(segment.keep).left_s)),
            leading=bool(segment.keep.view[K.LEADING]) and Fence(segment.keep).holds,  # else another may lead
            leader_epoch=segment.keep.view[K.LEADER_EPOCH],
            paused=bool(segment.keep.view[K.PAUSED]),
            swept={name: segment.keep.view[K.SWEPT + counter] for counter, name in enumerate(SWEPT)},
            errors={name: segment.keep.view[K.ERRORS + part] for part, name in enumerate(PARTS)},
            sizes=_sizes(segment, now),
            root=view[P.ROOT_PID] or None,
            breakers=_breakers(self._slots, now),
            lost_lines=self._lost_lines(),
        )

    def _lost_lines(self) -> dict[str, int]:
        pool, keep = self._segment.pool.view, self._segment.keep.view
        found = {"master": pool[P.LOST_LINES], "keeper": keep[K.LOST_LINES]}
        found["worker"] = sum(slot.desk.view[D.LOST_LINES] for slot in self._slots.values())
        if not pool[P.ROOT_PID]:  # a root has the exporter
            found["exporter"] = pool[P.EXPORTER_LOST_LINES]
        return found

    def _slot_view(self, number: int, now: float, epoch: float, window: int) -> SlotView:
        slot = self._slots[number]
        seat, desk = slot.seat, slot.desk.view
        pid, state = seat.view[S.PID], _name(SeatState, seat.view[S.STATE])
        if state == "held":  # not the master's child, so its pid is only known from its lock
            pid = self._segment.slot_holder(number) or 0
        sums, uncounted = counted(slot)
        cpu_s, rss = self._usage(number, pid, epoch - now + _number(seat.real[S.SPAWNED]))
        due = _number(seat.real[S.NEXT_SPAWN])
        here = bool(pid) and desk[D.PID] == pid
        came, went = slot.rates.last_minute(now, window)
        phase, since = _phase(slot, here=here)
        return SlotView(
            slot=number,
            pid=pid or None,
            state=state,
            desk=_name(DeskState, desk[D.STATE]) if here else "none",
            booted=here and _number(slot.desk.real[D.BOOTED]) > 0,
            connected=here and bool(desk[D.CONNECTED]),
            current=_current(slot, now) if here else None,
            counters=dict(zip(COUNTERS, sums.counters[: len(COUNTERS)].tolist(), strict=True)),
            waiting=desk[D.WAITING] if here or number < self._segment.wanted else 0,  # else others have them
            held=max(0, desk[D.HELD] - uncounted) if here else 0,
            came=came / window,
            went=went / window,
            restarts={name: seat.view[S.RESTARTS + cause] for cause, name in enumerate(CAUSES)},
            cpu_s=cpu_s,
            rss=rss,
            dropped=slot.pipe.dropped,
            set_aside=desk[D.SET_ASIDE],
            lent=slot.ward.view[W.LENT],
            deferred=desk[D.DEFERRED] if here else 0,
            phase=phase,
            phase_s=max(0.0, now - since) if phase else 0.0,
            next_spawn_s=max(0.0, due - now) if state == "backoff" else None,
            wait=_counts(sums.wait),
            batch=_counts(sums.batch),
            handlers=_handlers(sums, slot.events.raw_names()),
        )

    def _usage(self, number: int, pid: int, started: float) -> tuple[float, int] | tuple[None, None]:
        """Return CPU seconds and resident bytes of a slot's process; None when it is gone or not ours to see.

        A process that was found once is not looked for again: it knows whether it is still the same.
        """
        try:
            process = self._processes.get(number)
            if process is not None and process.pid == pid and (usage := process.usage()):
                return usage
            self._processes.pop(number, None)
            found = find(pid, started)
            if found is not None:
                process = self._processes[number] = Process(found)
                return process.usage() or (None, None)
        except psutil.Error:
            pass
        return None, None


def _sizes(segment: Segment, now: float) -> Sizes:
    pool, keep = segment.pool, segment.keep
    most, measured = pool.view[P.MOST], _number(keep.real[K.UNREAD_AT])
    known = 0 < measured <= now + 1 and now < measured + STALE_S
    return Sizes(
        least=pool.view[P.LEAST] if most else None,
        most=most or None,
        by_hand=bool(pool.view[P.BY_HAND]),
        changes={name: pool.view[P.SCALED + 2 * why] for why, name in enumerate(WHYS)},
        changed={name: _number(pool.real[P.SCALED + 2 * why + 1]) for why, name in enumerate(WHYS)},
        unread=keep.view[K.UNREAD] if known else None,
        exact=bool(keep.view[K.UNREAD_SURE]),
        busy=_number(pool.real[P.BUSY]),
        rate=_number(pool.real[P.RATE]),
    )


def _breakers(slots: dict[int, Slot], now: float) -> dict[str, BreakerView]:
    """Return the breakers of which the keeper has spoken to some slot."""
    found: dict[str, BreakerView] = {}
    for slot in slots.values():
        if not slot.strain.registered or slot.switches.registered != slot.strain.registered:
            continue
        for at, row in enumerate(slot.strain.rows()):
            state = slot.switches.state(at)
            due_s = 0.0 if math.isnan(state.due) else max(0.0, state.due - now)
            found[_event(row.name)] = BreakerView(
                state.shown.name.lower().replace("_", "-"), due_s, state.opened
            )
    return dict(sorted(found.items()))


def label(name: str | bytes) -> str:
    """Return a name as text that can be encoded, printed and used as a label, whatever its bytes are."""
    if isinstance(name, str):
        name = name.encode("utf-8", "surrogateescape")
    return printable(name)


def counted(slot: Slot) -> tuple[Sums, int]:
    """Return a slot's sums with the entries that are finished but not counted yet, and how many those are.

    The ledger says up to which entry of the journal it counts; what the journal has finished beyond
    is added, unless the writer has counted it meanwhile: then both are read again. Entries on their
    way to the dead letters count once the letter is written, which only the ledger knows.
    """
    for _ in range(_TRIES):
        sums, batch, upto = slot.ledger.read()
        beyond = slot.journal.finished(batch, upto)
        if beyond is not None and slot.ledger.read()[1:] == (batch, upto):
            outcomes, firsts = beyond
            with contextlib.suppress(ValueError):  # counters that were nonsense before
                count_outcomes(sums.counters, outcomes.translate(_NOT_YET), firsts)
            return sums, len(outcomes)
    return slot.ledger.read()[0], 0  # never seen: exact too, but of a moment ago


def _current(slot: Slot, now: float) -> Current | None:
    place = slot.journal.place()
    if place is None or slot.desk.view[D.RUNNING] != 1:
        return None
    return Current(label(place[2][:ID_MAX]), max(0.0, now - _number(place[1])), place[0])


def _handlers(sums: Sums, names: list[bytes]) -> dict[str, Counts]:
    """Return the rows by label. Names that look alike once they are printable share one."""
    found: dict[str, Counts] = {}
    for row, (buckets, total) in enumerate(sums.handlers()):
        if row and not any(buckets):
            continue
        counts = Counts(HANDLER_BOUNDS, tuple(buckets), total)
        name = OTHER if row == EVENTS_MAX else _event(names[row - 1]) if 0 < row <= len(names) else ""
        found[name] = found[name] + counts if name in found else counts
    return found


@functools.lru_cache(maxsize=1024)
def _event(name: bytes) -> str:
    return label(name.decode("utf-8", "backslashreplace"))


def _counts(histogram: Histogram) -> Counts:
    buckets, total = histogram.read()
    return Counts(histogram.bounds, tuple(buckets), total)


def _phase(slot: Slot, *, here: bool) -> tuple[str, float]:
    """Return what takes its time in a slot's process that is no handler, and since when."""
    real = slot.desk.real
    name = PHASES.get(slot.desk.view[D.OUTSIDE], "") if here else ""
    if name:
        return name, _number(real[D.OUTSIDE_AT])
    drains = _number(slot.seat.real[S.DRAINS_AT])
    return (DRAIN, drains) if drains and slot.seat.view[S.PID] else ("", 0.0)


def _pool_state(state: int, master: int, started: float, age: float) -> str:
    if state == PoolState.GONE or not master or find(master, started) is None:
        return "gone"
    return _name(PoolState, state) if age < FRESH_S else "stalled"


def _name(states: type[IntEnum], number: int) -> str:
    try:
        return states(number).name.lower()
    except ValueError:
        return "unknown"


def _number(value: float) -> float:
    return value if math.isfinite(value) else 0.0
