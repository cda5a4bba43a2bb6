"""The loans: which entries of a slot the keeper has lent to others since the slot was last asked.

    | next: 8 | id ms: 8 | id seq: 8 | id ms ...      a ring; a row of zeros is free

The highest bit of the milliseconds says that the entry was only let rest where it is.

Written before Redis is told, and struck out if Redis has refused. So whoever finds that an entry is pending
nowhere and in the stream no more can tell one that another slot has finished from one that is lost.
"""

from __future__ import annotations

from collections.abc import Iterable

from .cells import CELL

_WRAP = 2**64 - 1
_RESTS = 1 << 63
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

    def add(self, entries: Iterable[bytes], *, rest: bool = False) -> None:
        """Write down that entries are about to be lent; `rest`: that they only rest where they are."""
        cells = self._cells
        for entry in entries:
            at = 1 + 2 * (cells[0] % LOANS_MAX)
            ms, seq = _numbers(entry)
            cells[at] = 0
            cells[at + 1] = seq
            cells[at] = ms | _RESTS if rest else ms
            cells[0] = (cells[0] + 1) & _WRAP

    def strike(self, entries: Iterable[bytes]) -> None:
        """Write down that entries were not lent after all."""
        wanted = {_numbers(entry) for entry in entries}
        cells = self._cells
        for at in range(1, 1 + 2 * LOANS_MAX, 2):
            if (cells[at] & ~_RESTS, cells[at + 1]) in wanted:
                cells[at] = 0

    def entries(self) -> dict[bytes, bool]:
        """Return all that may have been lent, and whether it was only let rest where it is."""
        numbers = self._cells.tolist()
        rows = ((numbers[at], numbers[at + 1]) for at in range(1, len(numbers), 2))
        found: dict[bytes, bool] = {}
        for ms, seq in rows:
            if ms:
                entry, rests = b"%d-%d" % (ms & ~_RESTS, seq), bool(ms & _RESTS)
                found[entry] = rests and found.get(entry, True)
        return found

    def __contains__(self, entry: bytes) -> bool:
        """Tell whether an entry may have been lent."""
        ms, seq = _numbers(entry)
        numbers = self._cells.tolist()
        return any(numbers[at] & ~_RESTS == ms and numbers[at + 1] == seq for at in range(1, len(numbers), 2))


def _numbers(entry: bytes) -> tuple[int, int]:
    ms, _, seq = entry.partition(b"-")
    return int(ms), int(seq)
