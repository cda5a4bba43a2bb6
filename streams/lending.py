"""Lending: what a keeper sends to give entries that one slot has not started to another slot.

Pure: commands packed, replies taken apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import marks
from .entry import parse_id
from .group import pack
from .marks import Mark

_SCRIPTS = Path(__file__).with_name("scripts")
_HELD = marks.SCRIPT + _SCRIPTS.joinpath("held.lua").read_bytes()
_LEND = marks.BULK + _SCRIPTS.joinpath("lend.lua").read_bytes()
_RESTS = -1
OFF_MS = 2  # the clock and an idle time are read one after the other


class Row(NamedTuple):
    """A pending entry of one slot."""

    entry: bytes
    touched_ms: int  # server time; long ago for what rests by its idle time
    idle_ms: int  # as the server has it
    mark: Mark

    @property
    def rests(self) -> bool:
        """Tell whether nobody has it in hand."""
        return self.mark is not Mark.HELD

    @property
    def is_fresh(self) -> bool:
        """Tell whether it was touched so lately that the next touch may look like the same.

        Of what rests it does not matter: it is lent only while it still rests.
        """
        return not self.rests and self.idle_ms <= 2 * OFF_MS

    @property
    def is_suspect(self) -> bool:
        """Tell whether it was left by a host that was lost."""
        return self.mark is Mark.SUSPECT


class Lending:
    """The commands, for one group."""

    def __init__(self, stream: str, group: str) -> None:
        """Name the two; nothing is sent."""
        self._stream, self._group = stream, group

    def held(self, owner: str, first: bytes, count: int) -> bytes:
        """EVAL that lists what a slot has pending, but for suspects; for `rows`.

        Arguments:
            owner: its consumer.
            first: start of the range of ids; "-", or "(" and an id.
            count: most rows of what is held, and of what rests.
        """
        return pack("EVAL", _HELD, 1, self._stream, self._group, owner, first, count)

    def lend(self, owner: str, target: str, rows: Sequence[Row], *, old: bool = False) -> bytes:
        """EVAL that gives entries to another slot, where they rest; returns 1 for each that it got, or 0.

        Arguments:
            owner: consumer who has them.
            target: consumer who gets them; the owner itself to let them rest where they are.
            rows: as they were when it was seen that none of them has been started.
            old: the target's process is of a version that does not know the owners that have a mark.
        """
        pairs = (word for row in rows for word in (row.entry, _RESTS if row.rests else row.touched_ms))
        who = (self._group, owner, *marks.place(target, Mark.RESTING, old=old), OFF_MS)
        return pack("EVAL", _LEND, 1, self._stream, *who, *pairs)


def rows(reply: Any) -> list[Row]:
    """Return what `Lending.held` answers, in the order of ids."""
    now_ms = reply[0]
    found = {
        entry: Row(entry, now_ms - idle, idle, tuple(Mark)[code])
        for entry, idle, code in zip(reply[1::3], reply[2::3], reply[3::3], strict=True)
    }
    return sorted(found.values(), key=lambda row: parse_id(row.entry))
