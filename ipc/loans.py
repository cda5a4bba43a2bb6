"""The loans: which entries of a slot the keeper has lent to others since the slot was last asked.

    | next: 8 | id ms: 8 | id seq: 8 | id ms ...      a ring; a row of zeros is free

Written before Redis is told, and struck out if Redis has refused. So whoever finds that an entry is pending
nowhere and in the stream no more can tell one that another slot has finished from one that is lost.
"""

from __future__ import annotations

from collections.abc import Iterable

from .cells import CELL

_WRAP = 2**64 - 1
LOANS_MAX = 2048  # more than a slot has in hand, read ahead included


class Loans:
    """The ring of one slot. The keeper writes, the worker reads."""

    SIZE = CELL * (1 + 2 * LOANS_MAX)

    def __init__(self, raw: memoryview) -> None:
        self._cells = raw.cast("Q")

    @property
    def written(self) -> int:
        """Return how many were ever written down."""
        return self._cells[0]

    def add(self, entries: Iterable[bytes]) -> None:
        """Write down that entries are about to be lent."""
        cells = self._cells
        for entry in entries:
            at = 1 + 2 * (cells[0] % LOANS_MAX)
            ms, seq = _numbers(entry)
            cells[at] = 0
            cells[at + 1] = seq
            cells[at] = ms
            cells[0] = (cells[0] + 1) & _WRAP

    def strike(self, entries: Iterable[bytes]) -> None:
        """Write down that entries were not lent after all."""
        wanted = {_numbers(entry) for entry in entries}
        cells = self._cells
        for at in range(1, 1 + 2 * LOANS_MAX, 2):
            if (cells[at], cells[at + 1]) in wanted:
                cells[at] = 0

    def __contains__(self, entry: bytes) -> bool:
        """Tell whether an entry may have been lent."""
        ms, seq = _numbers(entry)
        numbers = self._cells.tolist()
        return any(numbers[at] == ms and numbers[at + 1] == seq for at in range(1, len(numbers), 2))


def _numbers(entry: bytes) -> tuple[int, int]:
    ms, _, seq = entry.partition(b"-")
    return int(ms), int(seq)
