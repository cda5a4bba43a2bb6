"""The cells: everything in the segment that is a number, 8 bytes each, with one writer each.

A cell is aligned, so a store is seen whole or not at all. Who writes what:

    Pool    in the header        the master
    Keep    in the header        the keeper: what Redis says of the pool's instance and its fleet
    Seat    first in a slot      the master: what it knows of the slot's processes
    Desk    second in a slot     the worker: what it is doing right now
    Ward    third in a slot      the keeper: what Redis says of the slot's entries

Times are seconds of CLOCK_MONOTONIC, stored as doubles, unless they say epoch or boot time.
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


def count_up(cells: memoryview[int], at: int, by: int = 1) -> None:
    """Add to a cell, whatever stands there: it begins at zero again behind the largest number."""
    cells[at] = (cells[at] + by) & ((1 << 64) - 1)


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
    KEEPER_PID = auto()  # as the master forked it
    ROOT_PID = auto()  # of the root above the master, 0 when there is none
    EMPTY = auto()  # 1 while a pool that stops when all are empty is so itself
    LEAST = auto()  # the range in which the pool scales itself; MOST is 0 when it does not
    MOST = auto()
    BY_HAND = auto()  # 1 while an operator has set how many slots are wanted
    BUSY = auto()  # real: workers at work, smoothed
    RATE = auto()  # real: entries per second of a busy worker, 0 when nothing is known
    SCALED = auto()  # first of two per Why: changes of the wanted slots; real, epoch: the newest
    EXPORTER_LOST_LINES = 30  # of the log, that the exporter has dropped: written by that
    LOST_LINES = 31  # of the log, that the master has dropped


class Why(IntEnum):
    """Why the number of wanted slots was changed."""

    BACKLOG = 0  # more: the backlog would not be cleared in time
    IDLE = auto()  # fewer: that many are not needed
    MEMORY = auto()  # fewer: they take more memory than they may
    HAND = auto()  # an operator wants it so


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
    assert P.SCALED + 2 * len(Why) <= P.EXPORTER_LOST_LINES
    assert max(P) < SIZE


class K(IntEnum):
    """Cells of a keep."""

    PID = 0
    BEAT = auto()  # real: the keeper's last turn, whether Redis answered or not
    UNTIL = auto()  # real, boot time: until when the instance lease may be trusted; see fence
    TERM = auto()  # counts how often the lease was won anew, with others free to act before
    TOKEN = auto()  # random, not zero: whoever has this segment and its lock may go on with the lease
    EPOCH = auto()  # fencing token of the instance lease
    PAUSED = auto()  # 1 while the group is paused
    LEADING = auto()  # 1 while this pool leads the group
    LEADER_EPOCH = auto()  # fencing token of the leader's term, whoever leads
    CALM = auto()  # 1 while the keeper looks at the slots now and then only: see nudge
    ORDERED = auto()  # how many slots the last order wants, 0: as many as the pool thinks best
    ORDER_AT = auto()  # real, epoch: when that order was given, 0 when there was none
    UNREAD_AT = auto()  # real: when the next three were written, 0 while they are
    UNREAD = auto()  # entries that the group has not read; only where the pool scales itself
    UNREAD_SURE = auto()  # 1 when those are all, 0 when there are at least so many
    UNREAD_S = auto()  # real: age of the oldest of them where those may not be all
    FLEET = auto()  # wanted slots of all living instances of the group, 0 when not known
    SWEPT = auto()  # first of one counter per Swept: sums of the whole group, as Redis has them
    ERRORS = 24  # first of one counter per Part: errors that keepers of this pool have met
    LOST_LINES = 31  # of the log, that the keeper has dropped
    LOST = 32  # entries that the pool's slots have lost, as last seen
    LOST_AT = 33  # real, epoch: when that was seen to grow, 0: never


class Swept(IntEnum):
    """What sweeps have done to a group, ever. In lower case: fields of a hash in Redis."""

    TAKEN = 0  # entries handed from owners that are gone to slots that live
    SUSPECTS = auto()  # how many of those were charged an attempt: their host was lost
    BURIED = auto()  # entries dead-lettered, their attempts used up by lost hosts
    LOST = auto()  # pending entries whose payload was deleted from the stream
    TRIMMED = auto()  # entries removed from the stream
    REMOVED = auto()  # consumers removed from the group
    RECREATED = auto()  # times the group was missing and was created again


class Part(IntEnum):
    """What a keeper does with Redis. In lower case: label of a metric, name in a report."""

    LEASE = 0
    PENDING = auto()  # renewing what the slots hold
    BREAKERS = auto()
    LENDING = auto()
    SWEEP = auto()
    BACKLOG = auto()
    ACKS = auto()  # of what a slot has finished before an entry that takes long


class Keep(_Cells):
    """What the keeper says of the pool."""

    SIZE = 40
    assert K.SWEPT + len(Swept) == K.ERRORS
    assert K.ERRORS + len(Part) <= K.LOST_LINES < SIZE


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
    DRAINS_AT = 31  # real: when the process was told to end, 0 when it was not


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
    HOLDS = auto()  # 1 while the journal speaks for what this slot has pending: not after a clean drain
    CONNECTED = auto()  # 1 while the connection to Redis stands
    WAKES = auto()  # how many requests to look after closed slots this process has met
    FORKED_AT = auto()  # real: when this process began
    MORE = auto()  # 1 while entries may be pending here, not started, that the newest batch does not name
    EMPTY_READS = auto()  # how many reads have found nothing
    LIMIT = auto()  # time limit of the entry that runs, where it is not the pool's: see limit
    MOST = auto()  # most attempts that an entry may have, of whatever event
    DEFERRED = auto()  # entries that wait for the circuit breaker of their event
    HELD_IN = auto()  # the lease's term in which the pending entries were last looked at; see K.TERM
    TERM = auto()  # of the lease, in which all that this memory names was held; 0: others may hold some of it
    OUTSIDE = auto()  # Outside: which code of the user's runs that is no handler
    OUTSIDE_AT = auto()  # real: since when; written first
    MARKS = auto()  # pid of a process of this slot that reads the marks of entries by their owners
    SET_ASIDE = 30  # how often the slot's memory made no sense and was begun anew
    LOST_LINES = 31  # of the log, that the processes of this slot have dropped


class W(IntEnum):
    """Cells of a ward."""

    HANDED = 0  # how often entries were handed to this slot
    ROBBED = auto()  # place in the journal of a start whose entry belongs to another slot now
    ASKED = auto()  # real: when the slot was last asked to make sure of what it has not started; each differs
    RUNS_ON = auto()  # place in the journal of a start behind which entries may have been lent
    LENT = auto()  # entries that were lent to other slots, ever


class Ward(_Cells):
    """What the keeper knows of a slot's entries."""

    SIZE = 8


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
    STANDING_BY = 6  # may not act: the group is paused, or the instance lease cannot be trusted


class Outside(IntEnum):
    """Code of the user's that is no handler and may hang as well: see `supervisor.phases` for its limits."""

    NONE = 0
    IMPORT = 1  # of the handler, where the master has not done it
    START = 2  # worker_start hooks
    STOP = 3  # worker_stop hooks
    END = 4  # the event loop, threads, exit functions
    FORK = 5  # not written by anybody: a new process has not come to its slot yet
    DRAIN = 6  # likewise: a process that was told to end, no handler runs, and it does not end


class Desk(_Cells):
    """What a worker is doing right now."""

    SIZE = 32
