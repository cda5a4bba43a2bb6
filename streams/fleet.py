"""The fleet: what the instances of a group tell each other, and what operators tell them.

Each keeper reports into one hash; an instance lives exactly while its lease (a key of its own) does, so what
stands in the hash may be of one that is long gone. Orders are fields of another hash, and stay there over
restarts until they are taken back or carried out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from . import marks
from .bounds import COUNT_MAX, SECONDS_MAX, TIME_MAX, number, whole

IDLE, BUSY, DOWN = "idle", "busy", "down"  # what a slot is doing
PAUSE = "pause"
_RATE_MAX = 10.0**9
MARKS = marks.VERSION
NAMES = 2  # how this version names keys, see `keys`; reports of versions before do not say


def drain_order(instance: str) -> str:
    """Return the field of the orders that tells an instance to drain and end."""
    return f"drain:{instance}"


def size_order(instance: str) -> str:
    """Return the field of the orders that tells an instance how many workers to have."""
    return f"scale:{instance}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a keeper says of its pool.

    Arguments:
        host: its host's name.
        pid: of its master.
        version: of the program.
        started: when the master started, Unix seconds.
        beat: when this was written, Unix seconds of that host.
        lease_s: how long its lease is given for.
        slots: slot -> idle, busy or down; the slots that are wanted, no others.
        rate: entries per second of a busy worker, 0 when nothing is known.
        busy: workers at work, smoothed.
        trouble: what of the keeper's work cannot be done for now -> why, in words.
        lost: entries that its slots have lost, as long as its memory remembers.
        lost_at: when that was last seen to grow, Unix seconds; 0: never.
        names: how its version names keys.
        marks: which marks of pending entries its version reads; 0: none but idle times.
    """

    host: str
    pid: int
    version: str
    started: float
    beat: float
    lease_s: float
    slots: dict[int, str] = field(default_factory=dict)
    rate: float = 0.0
    busy: float = 0.0
    trouble: dict[str, str] = field(default_factory=dict)
    lost: int = 0
    lost_at: float = 0.0
    names: int = NAMES
    marks: int = MARKS

    def encode(self) -> bytes:
        """Return the report as JSON."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()


def report(raw: bytes) -> Report | None:
    """Return what `Report.encode` made; None for anything else: another version may have written it."""
    try:
        values: dict[str, Any] = json.loads(raw, parse_constant=_refuse)
        slots = {whole(int(slot), 0, COUNT_MAX): str(state) for slot, state in values["slots"].items()}
        return Report(
            str(values["host"]), whole(values["pid"], 0, COUNT_MAX), str(values["version"]),
            number(values["started"], 0, TIME_MAX), number(values["beat"], 0, TIME_MAX),
            number(values["lease_s"], 0, SECONDS_MAX), slots, number(values.get("rate", 0), 0, _RATE_MAX),
            number(values.get("busy", 0), 0, _RATE_MAX),
            {str(part): str(words) for part, words in values.get("trouble", {}).items()},
            whole(values.get("lost", 0), 0, COUNT_MAX), number(values.get("lost_at", 0), 0, TIME_MAX),
            whole(values.get("names", 1), 0, COUNT_MAX), whole(values.get("marks", 0), 0, COUNT_MAX),
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of a report")
