"""Marks: how the pending list says of an entry whether somebody has it in hand. Pure.

    owner        idle time              the entry
    X:3          below RESTING_MS       is held: slot 3 of X has it in hand
    X:3:rest     for how long           rests: it was handed back, may be taken at once, nobody is charged
    X:3:suspect  for how long           is a suspect: a lost host left it; charged, and to be run alone
    X:3          RESTING_MS and above   rests; SUSPECT_MS and above: is a suspect. Versions before wrote that

The owner says it, for a claim with an idle time of zero costs the same however much is pending. Redis 8.6 and
later keep a list that is sorted by time, and walk along it for every claim with a time that has passed. See
docs/decisions/0028-marks.md. `scripts/marks.lua` is the same for scripts.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from . import keys

# No clock reaches such an idle time, and the server takes it (it must lie behind 1970). What is above it is
# for how long the entry has had the mark.
RESTING_MS = 2**40
SUSPECT_MS = RESTING_MS + 2**39
VERSION = 1  # of marks; versions before read idle times only
_SCRIPTS = Path(__file__).with_name("scripts")
SCRIPT = _SCRIPTS.joinpath("marks.lua").read_bytes()
BULK = SCRIPT + _SCRIPTS.joinpath("bulk.lua").read_bytes()


class Mark(StrEnum):
    """Whether somebody has an entry in hand."""

    HELD = "held"
    RESTING = "resting"
    SUSPECT = "suspect"


_SUFFIXES = {Mark.HELD: "", Mark.RESTING: ":rest", Mark.SUSPECT: ":suspect"}


def owner(consumer: str, mark: Mark) -> str:
    """Return who owns the entries of a slot's consumer that have a mark."""
    return consumer + _SUFFIXES[mark]


def owners(consumer: str) -> tuple[str, ...]:
    """Return the three owners of a slot's entries, the consumer itself first.

    An entry that is put to rest while they are asked one after the other is met twice, and never missed.
    """
    return tuple(consumer + suffix for suffix in _SUFFIXES.values())


def split(name: str) -> tuple[str, Mark]:
    """Return the slot's consumer and the mark of an owner's name.

    A name that is no slot's with a word of ours behind it stays whole.
    """
    for mark, suffix in _SUFFIXES.items():
        if suffix and name.endswith(suffix):
            consumer = name[: -len(suffix)]
            seat = keys.seat(consumer)
            if seat is not None and keys.consumer(*seat) == consumer:
                return consumer, mark
    return name, Mark.HELD


class Reading(NamedTuple):
    """What the list says of an entry: its mark, and for how long nobody has touched it."""

    mark: Mark
    untouched_ms: int


def read(mark: Mark, idle_ms: int) -> Reading:
    """Return what an owner's mark and an idle time mean together."""
    if mark is Mark.HELD and idle_ms >= SUSPECT_MS:
        return Reading(Mark.SUSPECT, idle_ms - SUSPECT_MS)
    if mark is Mark.HELD and idle_ms >= RESTING_MS:
        return Reading(Mark.RESTING, idle_ms - RESTING_MS)
    return Reading(mark, idle_ms)


class Place(NamedTuple):
    """Where an entry is put: the owner, and the idle time to set, ms."""

    owner: str
    idle_ms: int


def place(consumer: str, mark: Mark, *, old: bool = False) -> Place:
    """Return where an entry of a slot gets a mark.

    Arguments:
        consumer: of the slot.
        mark: that it gets.
        old: the slot's process is of a version that reads idle times only.
    """
    if old and mark is not Mark.HELD:
        return Place(consumer, SUSPECT_MS if mark is Mark.SUSPECT else RESTING_MS)
    return Place(owner(consumer, mark), 0)
