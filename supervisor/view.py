"""The view: what a pool's segment said at one moment, as plain values. `reading` makes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..ipc.cells import Outside, Part, Swept, Why
from ..ipc.exitcodes import Cause
from ..ipc.ledger import C
from ..ipc.segment import Identity

FRESH_S = 10.0  # the master passes through its loop about once a second; older than this, it is stuck
COUNTERS = tuple(counter.name.lower() for counter in C)
CAUSES = tuple(cause.name.lower() for cause in Cause)
SWEPT = tuple(counter.name.lower() for counter in Swept)
PARTS = tuple(part.name.lower() for part in Part)
WHYS = tuple(why.name.lower() for why in Why)
PROCESSES = ("master", "keeper", "worker", "exporter")
DRAIN = "drain"  # a phase that the master knows of: the process was told to end
PHASES: dict[int, str] = {
    Outside.IMPORT: "import",
    Outside.START: "worker_start",
    Outside.STOP: "worker_stop",
    Outside.END: "end",
}
_SEATED = ("starting", "running", "draining", "held")


@dataclass(frozen=True, slots=True)
class Counts:
    """A histogram, as numbers.

    Arguments:
        bounds: upper bounds of the buckets, without the unbounded last one.
        buckets: how many values fell into each, not cumulative; one more than bounds.
        total: sum of all values.
    """

    bounds: tuple[float, ...]
    buckets: tuple[int, ...]
    total: float

    def __add__(self, other: Counts) -> Counts:
        """Return both together."""
        buckets = tuple(map(sum, zip(self.buckets, other.buckets, strict=True)))
        return Counts(self.bounds, buckets, self.total + other.total)


@dataclass(frozen=True, slots=True)
class Current:
    """The entry that is in the hands of user code.

    Arguments:
        entry: its id.
        seconds: for how long.
        place: the journal's name for this start of it; never repeats.
    """

    entry: str
    seconds: float
    place: int


@dataclass(frozen=True, slots=True)
class SlotView:
    """What is known of one slot. Times in seconds, sizes in bytes.

    Arguments:
        slot: its number.
        pid: of the process in it, None when there is none.
        state: `ipc.cells.SeatState` in lower case.
        desk: `ipc.cells.DeskState` in lower case.
        booted: its process is ready to read.
        connected: its connection to Redis stands.
        current: what its handler is at.
        counters: `ipc.ledger.C` in lower case -> sum over the slot's life.
        waiting: entries that wait for their retry.
        held: entries fetched and not finished.
        came, went: entries in and out per second, over the last 60 s or since the pool started.
        restarts: `ipc.exitcodes.Cause` in lower case -> how many processes ended so.
        cpu_s: of the process; None when it is gone or not ours to see.
        rss: resident memory of the process; None likewise.
        dropped: reports that did not fit into the pipe.
        set_aside: how often its memory made no sense and was begun anew.
        deferred: entries that wait for the circuit breaker of their event.
        lent: entries that waited behind a long one and were lent to other slots.
        phase: what takes its time that is no handler, empty when nothing does; `PHASES` or drain.
        phase_s: for how long.
        next_spawn_s: until the next process is started, None when none is due.
        wait, batch: queue wait and batch size.
        handlers: event -> handler seconds.
    """

    slot: int
    pid: int | None = None
    state: str = "vacant"
    desk: str = "none"
    booted: bool = False
    connected: bool = False
    current: Current | None = None
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    waiting: int = 0
    held: int = 0
    came: float = 0.0
    went: float = 0.0
    restarts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CAUSES, 0))
    cpu_s: float | None = None
    rss: int | None = None
    dropped: int = 0
    set_aside: int = 0
    lent: int = 0
    deferred: int = 0
    phase: str = ""
    phase_s: float = 0.0
    next_spawn_s: float | None = None
    wait: Counts | None = None
    batch: Counts | None = None
    handlers: dict[str, Counts] = field(default_factory=dict)

    @property
    def up(self) -> bool:
        """Tell whether a process sits here, as the master sees it."""
        return self.state in _SEATED

    @property
    def ready(self) -> bool:
        """Tell whether it takes part in the work."""
        return self.booted and self.state == "running"

    @property
    def dead(self) -> int:
        """Return how many entries it dead-lettered."""
        return sum(count for name, count in self.counters.items() if name.startswith("dead_"))

    @property
    def restarted(self) -> int:
        """Return how many of its processes have ended."""
        return sum(self.restarts.values())


@dataclass(frozen=True, slots=True)
class Sizes:
    """How the number of wanted slots comes about.

    Arguments:
        least, most: the range in which the pool scales itself; None when it does not.
        by_hand: an operator has set the number.
        changes: `ipc.cells.Why` in lower case -> how often it was changed for that, ever.
        changed: the same -> when last, Unix seconds, 0 when never.
        unread: entries that the group has not read, the least it can be if not `exact`; None when not known.
        busy: workers at work, smoothed.
        rate: entries per second of a busy worker; 0 when nothing is known.
    """

    least: int | None = None
    most: int | None = None
    by_hand: bool = False
    changes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WHYS, 0))
    changed: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WHYS, 0.0))
    unread: int | None = None
    exact: bool = True
    busy: float = 0.0
    rate: float = 0.0

    @property
    def last(self) -> str:
        """Return why the number was changed last, empty when it never was."""
        why, when = max(self.changed.items(), key=lambda pair: pair[1])
        return why if when else ""


@dataclass(frozen=True, slots=True)
class BreakerView:
    """A circuit breaker, as the pool goes by it.

    Arguments:
        state: `closed`, `open` or `half-open`.
        due_s: seconds until an entry may be tried, where it is not closed; infinity: not before it is closed.
        opened: how often it has opened in the whole fleet, ever.
    """

    state: str
    due_s: float
    opened: int


@dataclass(frozen=True, slots=True)
class PoolView:
    """What is known of a pool.

    Arguments:
        identity: stream, group and instance, safe to print.
        state: `ipc.cells.PoolState` in lower case; `gone` when there is no master, `stalled` when
            there is one that does nothing.
        workers: how many slots are wanted.
        master: pid.
        uptime_s: since the master started.
        heartbeat_s: age of the master's last full pass.
        generation: how many reloads there were; reloads_failed: and how many came to nothing.
        exporter: pid, None when there is none.
        port: of the metrics, None when they are not served.
        slots: every slot that is wanted or was ever used, in order.
        keeper: pid, None when there is none.
        lease_s: for how long the instance lease may still be trusted, 0 when it may not.
        leading: this pool leads its group.
        leader_epoch: fencing token of the lead, whoever has it.
        paused: somebody has paused the group.
        swept: `ipc.cells.Swept` in lower case -> what sweeps have done to the group, ever.
        sizes: how many slots there should be.
        root: pid of the root above the master, None when there is none.
        breakers: event -> its circuit breaker.
        lost_lines: kind of process -> how many lines of the log it dropped, ever.
        errors: `ipc.cells.Part` in lower case -> errors that its keepers have met with it, ever.
    """

    identity: Identity
    state: str
    workers: int
    master: int
    uptime_s: float
    heartbeat_s: float
    generation: int
    reloads_failed: int
    exporter: int | None
    port: int | None
    slots: tuple[SlotView, ...]
    keeper: int | None = None
    lease_s: float = 0.0
    leading: bool = False
    leader_epoch: int = 0
    paused: bool = False
    swept: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SWEPT, 0))
    sizes: Sizes = field(default_factory=Sizes)
    root: int | None = None
    breakers: dict[str, BreakerView] = field(default_factory=dict)
    lost_lines: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PROCESSES, 0))
    errors: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PARTS, 0))

    @property
    def alive(self) -> bool:
        """Tell whether supervision goes on."""
        return self.heartbeat_s < FRESH_S

    def total(self, counter: str) -> int:
        """Return the sum of a counter over all slots."""
        return sum(slot.counters[counter] for slot in self.slots)
