"""What the root's policy thinks in: states, events, actions. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from ..ipc.exitcodes import OK
from .states import Reexec, Refused, ReopenLogs, Say, Signalled, Stage, Tell, Tried, Try


class Phase(Enum):
    """Where a pool is in its life."""

    ABSENT = auto()
    PREPARING = auto()
    PREPARED = auto()
    STARTING = auto()
    RUNNING = auto()
    ENDED = auto()


ALIVE = (Phase.PREPARING, Phase.PREPARED, Phase.STARTING, Phase.RUNNING)
LISTENING = (Phase.STARTING, Phase.RUNNING)  # before that, a word is not heard


@dataclass(frozen=True, slots=True)
class Sight:
    """What can be seen of a pool in its segment.

    Arguments:
        ready: every slot has booted, and its master does not stop.
        reloading: new code is tried, or slots still run the old one.
        reloads: how many reloads have ended, well or not.
        hung: its master has done nothing for too long.
        empty: None unless everything is read and settled; then what changes with each entry that is
            finished, and for each slot how many reads have found nothing.
    """

    ready: bool = False
    reloading: bool = False
    reloads: int = 0
    hung: bool = False
    empty: tuple[int, tuple[int, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """What the root remembers of a pool."""

    phase: Phase = Phase.ABSENT
    due: float = 0.0  # ABSENT: when to start its master
    since: float = 0.0  # when that was started
    fruitless: int = 0  # deaths in a row, none of which had run for long
    dismissed: bool = False  # the settings have it no more
    outdated: bool = False  # it is to be reloaded as soon as it runs
    reloads: int | None = None  # how many had ended when this one was ordered; None: none is waited for
    reload_until: float = 0.0


@dataclass(frozen=True, slots=True)
class State:
    """All that the root knows.

    Arguments:
        charges: name -> pool.
        empty: what was seen of every pool when all were empty; None when some was not.
    """

    charges: Mapping[str, Charge]
    stage: Stage = Stage.STARTING
    code: int = OK
    trial: bool = False
    reload_wanted: bool = False  # STARTING: a reload was asked for, it follows
    announced: bool = True  # READY was said since the last reload
    empty: Mapping[str, tuple[int, tuple[int, ...]]] | None = None
    status: str = ""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A master says that nothing is wrong, and waits."""

    name: str


@dataclass(frozen=True, slots=True)
class Gone:
    """A master has ended; `detail` as in exitcodes.Death."""

    name: str
    detail: int


Event = Signalled | Tried | Refused | Prepared | Gone


@dataclass(frozen=True, slots=True)
class Start:
    """Start a pool's master."""

    name: str


@dataclass(frozen=True, slots=True)
class Send:
    """Say a word to a master."""

    name: str
    word: bytes


@dataclass(frozen=True, slots=True)
class End:
    """End a master that has not begun to listen: by a signal."""

    name: str


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill a master that hangs; its workers finish what they run."""

    name: str


@dataclass(frozen=True, slots=True)
class Leave:
    """End the root."""

    code: int


Action = Start | Send | End | Kill | Leave | Try | Reexec | ReopenLogs | Tell | Say
