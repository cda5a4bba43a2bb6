"""Marks: that a handler has returned for a message, remembered for a while.

A mark is a key with a time to live, named after what the message is known by, and set by the script that
acknowledges. It is no lock: while a handler runs there is none, so two copies that run at the same moment
both run.

Pure: commands packed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from . import keys
from .bounds import DELAY_MAX_S
from .durations import Duration, seconds
from .group import pack
from .marks import SCRIPT as _OWNERS

_SCRIPT = _OWNERS + Path(__file__).with_name("scripts").joinpath("once.lua").read_bytes()


def lasting_s(duration: Duration) -> float:
    """Return the seconds for which a mark is to be there; 0 or nothing: there is to be none.

    Raises:
        ValueError: it is no duration, or one of more than ten years.
    """
    if not duration:
        return 0.0
    found = seconds(duration)
    if found > DELAY_MAX_S:
        raise ValueError(f"{duration} is longer than ten years")
    return found


class Row(NamedTuple):
    """An entry that is done, the name of the mark it leaves, for how long, and the key it is named after."""

    entry: bytes
    mark: str
    ttl_ms: int
    key: bytes = b""


class Marks:
    """The marks that one consumer of a group sets and looks for."""

    def __init__(self, stream: str, group: str, consumer: str) -> None:
        """Name the three; nothing is sent."""
        self._stream, self._group, self._consumer = stream, group, consumer

    def name(self, key: bytes) -> str:
        """Return the name of the mark of messages that are known by this."""
        return keys.mark(self._stream, self._group, key)

    def look(self, marks: Sequence[str]) -> bytes:
        """MGET of marks: for each the id of the entry that set it, or None."""
        return pack("MGET", *marks)

    def ack(self, rows: Sequence[Row]) -> bytes:
        """EVAL that sets marks and acknowledges the entries, whoever owns them."""
        return self._pack("", rows)

    def ack_own(self, rows: Sequence[Row]) -> bytes:
        """EVAL that sets marks and acknowledges what this slot still has, and nothing else."""
        return self._pack(self._consumer, rows)

    def _pack(self, owner: str, rows: Sequence[Row]) -> bytes:
        names = (self._stream, *(row.mark for row in rows))
        pairs = (word for row in rows for word in (row.entry, row.ttl_ms))
        return pack("EVAL", _SCRIPT, len(names), *names, self._group, owner, *pairs)
