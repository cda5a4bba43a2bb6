"""The shell's senses: what wakes the master, and what it sees in the segment."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal

from ..ipc.cells import D, DeskState, Outside, S, W
from ..ipc.journal import Outcome
from ..ipc.limit import unpack
from ..ipc.segment import Segment
from ..ipc.slot import Slot
from ..worker.recovery import ACKED
from ..worker.tally import finished
from . import early
from .early import SIGNAL_NUMBERS
from .link import Link
from .spawn import memory_of
from .states import Sight

log = logging.getLogger("rsq.master")


class Doorbell:
    """The one thing the master waits on: signals, and a byte from a child that has booted."""

    def __init__(self, report: tuple[int, int] | None = None, link: Link | None = None) -> None:
        """Take over the signals.

        Arguments:
            report: the pipe for children, from before a reload.
            link: to the root above, None without one.
        """
        self._link = link
        self._signals_r, self._signals_w = os.pipe()
        self.report_r, self.report_w = report or os.pipe()
        for fd in (self._signals_r, self._signals_w, self.report_r, self.report_w):
            os.set_blocking(fd, False)
        # Held back meanwhile: none goes unheard, and none is heard twice.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNAL_NUMBERS)
        signal.set_wakeup_fd(self._signals_w, warn_on_full_buffer=False)
        for number in SIGNAL_NUMBERS:
            signal.signal(number, lambda _number, _frame: None)
        os.write(self._signals_w, early.heard())
        self.let_go()
        self._poll = select.poll()
        self._poll.register(self._signals_r, select.POLLIN)
        self._poll.register(self.report_r, select.POLLIN)
        if link is not None:
            self._poll.register(link.fd, select.POLLIN)

    @property
    def fds(self) -> tuple[int, ...]:
        """Return the descriptors that are the master's alone."""
        own = (self._signals_r, self._signals_w, self.report_r)
        return own if self._link is None else (*own, self._link.fd)

    def watch(self, fd: int) -> None:
        """Be woken by a descriptor too."""
        self._poll.register(fd, select.POLLIN)

    def forget(self, fd: int) -> None:
        """Be woken by it no more."""
        self._poll.unregister(fd)

    def hold_back(self) -> None:
        """Keep all signals for whoever takes over next, those that came since the last `wait` too."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNAL_NUMBERS)
        with contextlib.suppress(BlockingIOError):
            for number in os.read(self._signals_r, 4096):
                os.kill(os.getpid(), number)

    def let_go(self) -> None:
        """Hear signals again, those too that were held back."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNAL_NUMBERS)

    def wait(self, seconds: float) -> list[str]:
        """Sleep until something happens or the time is up; return the names of signals that came.

        What the root has said is among them, under the names that `link` gives it.
        """
        self._poll.poll(max(0.0, seconds) * 1000)
        with contextlib.suppress(BlockingIOError):
            os.read(self.report_r, 4096)
        numbers = b""
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(self._signals_r, 4096)
        names = [signal.Signals(number).name for number in numbers]
        said = [] if self._link is None else self._link.events()
        return [*(name for name in names if name != "SIGCHLD"), *said]


def look(segment: Segment, slot: int, pid: int | None, *, memory: bool) -> Sight:
    """Return what can be seen of a slot.

    Arguments:
        segment: of the pool.
        slot: an open one.
        pid: of our process in it, None when there is none.
        memory: also ask for its resident memory.
    """
    parts = segment.slot(slot)
    desk = parts.desk
    holder = segment.slot_holder(slot)
    place = parts.journal.place()
    running = bool(desk.view[D.RUNNING]) and place is not None
    entry = place[2].decode("ascii", "replace") if place else ""
    together = parts.journal.together() if running else 1
    if together > 1:
        entry += f" (of a batch of {together})"
    outside, since = _outside(parts, pid)
    return Sight(
        holder=holder if holder is not None and holder != pid else None,
        booted=pid is not None and desk.view[D.PID] == pid and desk.real[D.BOOTED] > 0,
        busy=running or desk.view[D.STATE] == DeskState.HANDLING,
        running=running,
        place=place[0] if place else 0,
        since=place[1] if place else 0.0,
        entry=entry,
        together=together,
        finished=finished(parts.ledger),
        settled=bool(desk.view[D.SETTLED]),
        held=bool(desk.view[D.HOLDS]),
        wakes=desk.view[D.WAKES],
        handed=parts.ward.view[W.HANDED],
        robbed=parts.ward.view[W.ROBBED],
        limit_s=unpack(desk.view[D.LIMIT], place[2]) if place else None,
        memory=memory_of(pid) if memory and pid is not None else None,
        outside=outside,
        outside_at=since,
    )


def _outside(parts: Slot, pid: int | None) -> tuple[Outside, float]:
    """Return which code of the user's runs in our process that is no handler, and since when."""
    if pid is None:
        return Outside.NONE, 0.0
    desk = parts.desk
    if desk.view[D.PID] != pid:
        return Outside.FORK, parts.seat.real[S.SPAWNED]
    try:
        return Outside(desk.view[D.OUTSIDE]), desk.real[D.OUTSIDE_AT]
    except ValueError:
        return Outside.NONE, 0.0


def tell_kept(segment: Segment, slot: int) -> None:
    """Log how many entries the memory of a slot still tells of that nobody could settle with Redis."""
    parts, identity = segment.slot(slot), segment.identity
    ends: dict[bytes, Outcome | None] = {}
    for batch in parts.journal.batches():
        ends.update(zip(batch.ids, batch.ends, strict=True))
    over = sum(end in ACKED for end in ends.values())
    log.error(
        "slot %d: Redis could not be told in time: %d finished entries and %d others, of which %d wait for"
        " a retry, stay in its memory. The next pool of instance %s on this host settles them, and nothing"
        " finished runs again; if none starts within the lease, other instances take over all of them",
        slot, over, len(ends) - over, len(parts.waiting.load()), identity.instance,
    )  # fmt: skip
