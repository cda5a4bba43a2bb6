"""The cells: everything in the segment that is a number, 8 bytes each, with one writer each.

A cell is aligned, so a store is seen whole or not at all. Who writes what:

    Pool    in the header        the master
    Seat    first in a slot      the master: what it knows of the slot's processes
    Desk    second in a slot     the worker: what it is doing right now

Times are seconds of CLOCK_MONOTONIC, stored as doubles, unless they say epoch.
"""

from __future__ import annotations

from enum import IntEnum, auto

CELL = 8


class _Cells:
    """A row of cells: unsigned numbers by `view`, the same bytes as doubles by `real`."""

    SIZE: int

    def __init__(self, raw: memoryview) -> None:
        self.view = raw.cast("Q")
        self.real = raw.cast("d")

    def release(self) -> None:
        self.view.release()
        self.real.release()


class P(IntEnum):
    """Cells of the header."""

    MASTER_PID = 0
    STARTED = auto()  # real, epoch
    HEARTBEAT = auto()  # real: end of the master's last full pass
    STATE = auto()  # PoolState
    WORKERS = auto()  # slots wanted: 0 .. WORKERS-1
    GENERATION = auto()  # counts reloads
    EXPORTER_PID = auto()
    METRICS_PORT = auto()
    RELOADS_FAILED = auto()


class PoolState(IntEnum):
    """What a pool is doing, as its master sees it."""

    GONE = 0
    STARTING = 1
    RUNNING = 2
    RELOADING = 3
    STOPPING = 4


class Pool(_Cells):
    """What the master says of the pool."""

    SIZE = 32


class S(IntEnum):
    """Cells of a seat."""

    PID = 0
    SPAWNED = auto()  # real
    STATE = auto()  # SeatState
    CAUSE = auto()  # exitcodes.Cause of the last process that ended here
    DETAIL = auto()  # exitcodes.Death.detail of it
    CONDEMNED = auto()  # place in the journal that a time-out kill was meant for
    NEXT_SPAWN = auto()  # real
    RESTARTS = auto()  # first of one counter per exitcodes.Cause


class SeatState(IntEnum):
    """What the master makes of a slot."""

    VACANT = 0
    STARTING = 1
    RUNNING = 2
    DRAINING = 3
    BACKOFF = 4
    HELD = 5  # a process of a former master still sits here
    RETIRED = 6


class Seat(_Cells):
    """What the master knows of a slot."""

    SIZE = 32


class D(IntEnum):
    """Cells of a desk."""

    PID = 0
    BOOTED = auto()  # real: when this process was ready to read, 0 while it boots
    STATE = auto()  # DeskState
    RUNNING = auto()  # 1 while user code may run: then the journal's last mark is the culprit's; see CHARGED
    HELD = auto()  # entries fetched and not yet finished, without those that wait
    WAITING = auto()  # entries that wait for their retry
    SETTLED = auto()  # 1 while an empty read was the last thing and nothing is held or waits
    HANDLER_S = auto()  # real: smoothed seconds of one handler
    ENTRY_BYTES = auto()  # real: smoothed bytes of one entry
    SIDE = auto()  # which of the two watermarks below is valid
    MARK_A_MS = auto()
    MARK_A_SEQ = auto()
    MARK_B_MS = auto()
    MARK_B_SEQ = auto()
    CONNECTED = auto()  # 1 while the connection to Redis stands
    WAKES = auto()  # how many requests to look after closed slots this process has met
    FORKED_AT = auto()  # real: when this process began


# RUNNING, plus an index in the newest batch: its entry is charged, only its end mark may be missing.
CHARGED = 2


class DeskState(IntEnum):
    """What a worker is doing."""

    NONE = 0
    BOOTING = 1
    IDLE = 2  # waits for Redis
    HANDLING = 3
    CONNECTING = 4
    DRAINING = 5


class Desk(_Cells):
    """What a worker is doing right now."""

    SIZE = 32

    @property
    def watermark(self) -> tuple[int, int]:
        """Return the entry id up to which the pending list is in held form (see worker/recovery)."""
        at = D.MARK_B_MS if self.view[D.SIDE] else D.MARK_A_MS
        return self.view[at], self.view[at + 1]

    @watermark.setter
    def watermark(self, mark: tuple[int, int]) -> None:
        other = 0 if self.view[D.SIDE] else 1
        at = D.MARK_B_MS if other else D.MARK_A_MS
        self.view[at], self.view[at + 1] = mark
        self.view[D.SIDE] = other


EVERYTHING = (2**64 - 1, 2**64 - 1)
NOTHING = (0, 0)
