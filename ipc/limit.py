"""The limit of the entry that runs, where it is not the pool's: one cell, written by the worker.

    | crc32 of the entry's id: 32 bits | milliseconds: 32 bits |        0: nothing was ever written

It names the entry that it is meant for, so whoever sees another one running knows that it holds for that one
no more, or not yet.
"""

from __future__ import annotations

from zlib import crc32

_BITS = 32
_NONE = (1 << _BITS) - 1  # no limit


def pack(entry: bytes, seconds: float) -> int:
    """Return what the cell holds while an entry runs that may take so long; 0 is for ever."""
    limit_ms = max(1, min(round(seconds * 1000), _NONE - 1)) if seconds else _NONE
    return crc32(entry) << _BITS | limit_ms


def unpack(cell: int, entry: bytes) -> float | None:
    """Return the seconds that an entry may run by the cell, 0 for ever; None when it says nothing of it."""
    if not cell or cell >> _BITS != crc32(entry):
        return None
    limit_ms = cell & _NONE
    return 0.0 if limit_ms == _NONE else limit_ms / 1000
