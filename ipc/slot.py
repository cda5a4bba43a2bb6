"""A slot: how its bytes are divided. All offsets derive from the sizes of the parts.

+------+------+------+--------+-------+--------+------------+---------+---
| Seat | Desk | Ward | Ledger | Rates | Events | 2 journals | Waiting | ...
+------+------+------+--------+-------+--------+------------+---------+---
            ---+-------+-----------+--------+----------+------+
           ... | Loans | Once keys | Strain | Switches | Pipe |
            ---+-------+-----------+--------+----------+------+
"""

from __future__ import annotations

from itertools import accumulate

from .breakers import Strain, Switches
from .cells import CELL, Desk, Seat, Ward
from .journal import BANK_SIZE, Journal, Waiting
from .ledger import Events, Ledger, Rates
from .loans import Loans
from .oncekeys import OnceKeys
from .pipe import PIPE_SIZE, Pipe

_PARTS = (
    Seat.SIZE * CELL,
    Desk.SIZE * CELL,
    Ward.SIZE * CELL,
    Ledger.SIZE * CELL,
    Rates.SIZE * CELL,
    Events.SIZE * CELL,
    2 * BANK_SIZE,
    Waiting.SIZE,
    Loans.SIZE,
    OnceKeys.SIZE,
    Strain.SIZE,
    Switches.SIZE,
    PIPE_SIZE,
)
_ENDS = tuple(accumulate(_PARTS))
assert all(size % CELL == 0 for size in _PARTS)
SLOT_SIZE = (_ENDS[-1] + 4095) & ~4095
TOUCHED = _ENDS[2] + CELL  # seat, desk, ward and the ledger's commit: not all zero once a slot was used


class Slot:
    """The parts of one slot's bytes, each by the name of what it holds."""

    def __init__(self, raw: memoryview) -> None:
        parts = [raw[end - size : end] for size, end in zip(_PARTS, _ENDS, strict=True)]
        self.seat = Seat(parts[0])
        self.desk = Desk(parts[1])
        self.ward = Ward(parts[2])
        self.ledger = Ledger(parts[3])
        self.rates = Rates(parts[4])
        self.events = Events(parts[5])
        self.journal = Journal(parts[6])
        self.waiting = Waiting(parts[7])
        self.loans = Loans(parts[8])
        self.once_keys = OnceKeys(parts[9])
        self.strain = Strain(parts[10])
        self.switches = Switches(parts[11])
        self.pipe = Pipe(parts[12])
