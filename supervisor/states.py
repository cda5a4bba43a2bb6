"""What the policy thinks in: states, events, actions. Values only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from ..ipc.cells import Outside, Why
from ..ipc.exitcodes import OK, Cause, Death
from .meter import Meter
from .scaling import Past, Scale


class Phase(Enum):
    """Where a slot is in its life."""

    VACANT = auto()
    STARTING = auto()
    RUNNING = auto()
    DRAINING = auto()
    CLOSED = auto()


class Stage(Enum):
    """Where the pool is in its life."""

    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator asked for. Times in seconds, sizes in bytes; 0 switches a rule off.

    With `scale` the pool begins with `workers`, its least, and finds its size by itself.
    """

    workers: int
    timeout_s: float = 0.0
    drain_s: float = 30.0
    max_messages: int = 0
    max_growth: int = 0
    until_empty: bool = False
    capacity: int = 64
    scale: Scale | None = None
    together: bool = False  # with `until_empty`: others have to be empty too, the root says when
    start_s: float = 120.0  # for an import, and for worker_start hooks, in a worker
    end_s: float = 30.0  # for worker_stop hooks, and for the end of a process
    recover_s: float = 10.0  # STOPPING: for a slot whose process left entries in hand
    reload_s: float = 60.0  # how long a trial of new code may take
    code: str = ""  # what runs, for the log


@dataclass(frozen=True, slots=True)
class Sight:
    """What can be seen of a slot without asking anybody.

    Arguments:
        holder: pid of a process that sits there and is not ours: a worker of a former master.
        booted: its process is ready to read.
        busy: its worker is at work.
        running: user code may run; then `place` names the start of the entry, `since` its time.
        entry: id of that entry.
        together: how many entries run at the same time, in one call.
        finished: how many entries were ever finished in this slot.
        settled: it has nothing in hand and the stream was empty.
        held: the slot's memory tells of entries in hand.
        wakes: how many requests to look after closed slots it has met.
        handed: how often entries were handed to the slot.
        robbed: a place whose entry belongs to another instance by now.
        limit_s: how long that entry may run, 0 for ever; None for as long as the rules say.
        memory: resident bytes, None when unknown.
        outside: which code of the user's runs that is no handler; outside_at: since when.
    """

    holder: int | None = None
    booted: bool = False
    busy: bool = False
    running: bool = False
    place: int = 0
    since: float = 0.0
    entry: str = ""
    together: int = 1
    finished: int = 0
    settled: bool = False
    held: bool = False
    wakes: int = 0
    handed: int = 0
    robbed: int = 0
    limit_s: float | None = None
    memory: int | None = None
    outside: Outside = Outside.NONE
    outside_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Seat:
    """What the master remembers of a slot."""

    slot: int
    phase: Phase = Phase.VACANT
    due: float = 0.0  # VACANT: when to fork
    fresh: bool = True  # runs the newest code
    retire: bool = False  # it is to be closed
    recovers: bool = False  # its process only recovers what the slot's memory tells of, and hands it back
    recover_until: float | None = None  # STOPPING: when such a process is given up
    leave: Cause = Cause.CLEAN  # DRAINING: what for
    booted: bool = False  # its process has put in order what its predecessor left
    killed: Cause | None = None
    finished: int = 0  # at the time of the fork
    limit: int = 0  # entries this process may finish
    growth: int = 0  # bytes it may grow by
    baseline: int | None = None  # memory after boot
    watched: int = 0  # the place that was seen running,
    watched_s: float = 0.0  # and for how long
    allowed_s: float = 0.0  # how long it may run
    frozen_at: float | None = None  # stopped, to look whether its time is up
    fenced: bool = False  # stopped, because the instance lease cannot be trusted
    robbed: bool = False  # killed, because its entry belongs to another instance
    outside: tuple[Outside, float] = (Outside.NONE, 0.0)  # code of the user's that is no handler,
    outside_s: float = 0.0  # for how long it was seen to run,
    outside_told: bool = False  # and whether that was said
    drains_at: float = 0.0  # DRAINING: since when
    drain_told: bool = False  # and whether it was said that a handler still runs
    fruitless: int = 0
    boot_failures: int = 0
    told_held: bool = False
    wakes: int = 0  # requests to look after entries that rest which this process was sent
    handed: int = 0  # how often entries had been handed to the slot when it was sent the last one

    @property
    def alive(self) -> bool:
        """Tell whether a process of ours sits here."""
        return self.phase in (Phase.STARTING, Phase.RUNNING, Phase.DRAINING)


@dataclass(frozen=True, slots=True)
class State:
    """All that the master knows."""

    seats: Mapping[int, Seat]
    wanted: int
    stage: Stage = Stage.STARTING
    deadline: float = 0.0  # STOPPING: when patience ends
    code: int = OK  # STOPPING: the exit code
    told: bool = False  # STOPPING: the root has said so, a signal may still come
    booted_once: bool = False
    trial: bool = False  # a fresh interpreter tries the new code
    reload_wanted: bool = False  # STARTING: a reload was asked for, it follows
    rolling: bool = False
    last: float = 0.0  # time of the last step
    until: float = math.inf  # when the trust in the instance lease ends
    status: str = ""
    by_hand: bool = False  # an operator has set `wanted`
    meter: Meter = field(default_factory=Meter)
    past: Past = field(default_factory=Past)  # of a pool that scales itself
    empty: bool = False  # with `together`: everything is read and settled


@dataclass(frozen=True, slots=True)
class Signalled:
    """A signal reached the master, or a word of the root: see `link`."""

    name: str


@dataclass(frozen=True, slots=True)
class Exited:
    """A worker's process is gone. `detail` as in exitcodes.Death; `sight` from before its slot is reused."""

    slot: int
    detail: int


@dataclass(frozen=True, slots=True)
class Halted:
    """A worker's process has stopped (SIGSTOP)."""

    slot: int


@dataclass(frozen=True, slots=True)
class Unforkable:
    """A slot could not be given a process."""

    slot: int
    words: str


@dataclass(frozen=True, slots=True)
class Tried:
    """The new code was tried. `words` is empty when it is good; `code` says what it is."""

    words: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The new code is good, but the new program could not be started; nothing has changed."""

    words: str


@dataclass(frozen=True, slots=True)
class Ordered:
    """An operator wants so many workers; 0: as many as the configuration says."""

    workers: int


Event = Signalled | Exited | Halted | Unforkable | Tried | Refused | Ordered


@dataclass(frozen=True, slots=True)
class Fork:
    """Put a new process into a slot; with `retire` it only recovers what the slot holds, and ends."""

    slot: int
    retire: bool = False
    first: bool = False


@dataclass(frozen=True, slots=True)
class TellKept:
    """Log what the memory of a slot still tells of, which nobody could settle with Redis."""

    slot: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Tell a slot's process to finish what it runs, hand back the rest and end."""

    slot: int


@dataclass(frozen=True, slots=True)
class Wake:
    """Tell a slot's process to look after slots that were closed."""

    slot: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """Stop a slot's process, to look at it while it cannot move."""

    slot: int


@dataclass(frozen=True, slots=True)
class Thaw:
    """Let it go on."""

    slot: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Write down the reason, then kill; without `explain` the reason there is still needed."""

    slot: int
    cause: Cause
    place: int = 0
    explain: bool = True


@dataclass(frozen=True, slots=True)
class KillStranger:
    """The same for a process of a former master, whose own limits nobody watches any more."""

    slot: int
    pid: int
    place: int
    cause: Cause = Cause.TIMEOUT


@dataclass(frozen=True, slots=True)
class Record:
    """Write down how a slot's process ended (not without `explain`); `count` it as a restart."""

    slot: int
    death: Death
    count: bool = True
    explain: bool = True


@dataclass(frozen=True, slots=True)
class Try:
    """Start a fresh interpreter that imports the new code."""


@dataclass(frozen=True, slots=True)
class Reexec:
    """Become a new master in the same process, with new code."""

    code: str = ""


@dataclass(frozen=True, slots=True)
class ReopenLogs:
    """Open the log file again."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the service manager and the readers of the segment."""

    what: str  # ready, reloading, reload failed, stopping, empty, status
    words: str = ""


@dataclass(frozen=True, slots=True)
class Resized:
    """Write down that so many slots are wanted now, and why."""

    wanted: int
    why: Why


@dataclass(frozen=True, slots=True)
class Say:
    """Log a line."""

    level: str
    words: str


@dataclass(frozen=True, slots=True)
class Leave:
    """End the master."""

    code: int


Action = (
    Fork
    | Drain
    | Wake
    | Freeze
    | Thaw
    | Kill
    | KillStranger
    | Record
    | Try
    | Reexec
    | ReopenLogs
    | Tell
    | Resized
    | TellKept
    | Say
    | Leave
)
