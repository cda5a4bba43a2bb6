"""Lending: what a keeper sends to give entries that one slot has not started to another slot.

Pure: commands packed, replies taken apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .group import RESTING_MS, SUSPECT_MS, pack

_SCRIPTS = Path(__file__).with_name("scripts")
_HELD, _LEND = (_SCRIPTS.joinpath(f"{name}.lua").read_bytes() for name in ("held", "lend"))
OFF_MS = 2  # the clock and an idle time are read one after the other


class Row(NamedTuple):
    """A pending entry of one consumer."""

    entry: bytes
    touched_ms: int  # server time; before 1970 for what rests
    idle_ms: int

    @property
    def rests(self) -> bool:
        """Tell whether nobody has it in hand."""
        return self.idle_ms >= RESTING_MS

    @property
    def is_fresh(self) -> bool:
        """Tell whether it was touched so lately that the next touch may look like the same."""
        return self.idle_ms <= 2 * OFF_MS

    @property
    def is_suspect(self) -> bool:
        """Tell whether it was left by a host that was lost."""
        return self.idle_ms >= SUSPECT_MS


class Lending:
    """The commands, for one group."""

    def __init__(self, stream: str, group: str) -> None:
        """Name the two; nothing is sent."""
        self._stream, self._group = stream, group

    def held(self, owner: str, first: bytes, count: int) -> bytes:
        """EVAL that lists what a consumer has pending; for `rows`.

        Arguments:
            owner: its name.
            first: start of the range of ids; "-", or "(" and an id.
            count: most rows.
        """
        return pack("EVAL", _HELD, 1, self._stream, self._group, owner, first, count)

    def lend(self, owner: str, target: str, rows: Sequence[Row]) -> bytes:
        """EVAL that gives entries to another consumer, where they rest; returns 1 for each that it got, or 0.

        Arguments:
            owner: who has them.
            target: who gets them; the owner itself to let them rest where they are.
            rows: as they were when it was seen that none of them has been started.
        """
        pairs = (word for row in rows for word in (row.entry, row.touched_ms))
        who = (self._group, owner, target, RESTING_MS, SUSPECT_MS, OFF_MS)
        return pack("EVAL", _LEND, 1, self._stream, *who, *pairs)


def rows(reply: Any) -> list[Row]:
    """Return what `Lending.held` answers, in the order of ids."""
    now_ms = reply[0]
    return [Row(entry, now_ms - idle, idle) for entry, idle in zip(reply[1::2], reply[2::2], strict=True)]
