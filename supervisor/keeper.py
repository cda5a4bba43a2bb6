"""The keeper: the child that keeps a pool's instance lease, and with it the right of its workers to act.

A beat every third of a lease: one script that goes on with the lease, renews what the slots hold, and
brings what operators want (see `streams.beat`). In between it waits for a word in its inbox. It writes into
the segment; the master and the workers read. No user code runs here.

Order of writing, on which the fence rests: a new term is counted before the trust in it begins, and who was
robbed of its entry is known before that too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import socket
import time

from .. import __version__
from ..ipc import logsink
from ..ipc.cells import K, P, Part, PoolState, Swept, count_up
from ..ipc.fence import TRUSTED, Fence, boot_time
from ..ipc.nudge import NUDGE
from ..ipc.segment import Segment
from ..streams import beat, fleet, orders
from ..streams.wire import Lost, heed
from .complaints import LASTS_S, Complaints
from .crew import Crew
from .gauge import Gauge
from .leading import Lead
from .lender import Lender
from .line import Line
from .printable import one_line
from .settings import Pool
from .switchboard import Switchboard

log = logging.getLogger("rsq.keeper")

# On the control pipe. A signal alone ends no keeper: one that reaches the whole process group is for the
# master to act on, and the lease is needed until its drain is over.
RELEASE = b"r"  # the pool has ended, let others go on at once
END = b"e"  # another keeper goes on with the lease
BEATS = 3  # in one lease
_LET_GO_BEATS = 4 * BEATS
_PAGES = 50  # of pending entries that are looked at in one beat
_ASK_S = 1.0  # how often a lease that another has is asked for
_PATIENCE = 1 / 6  # of a lease, for a reply: a dead connection is replaced before the trust ends
_LISTEN_LEAST_S = 0.05  # a pass of the sweep follows each beat closely: not worth a command
_BOOTING_S = 1.0
_LEND_PATIENCE_S = 1.0
_ORPHAN_S = 0.1  # how often a keeper without a master looks whether it is needed


def limit_s(lease_s: float) -> float:
    """Return how long a keeper may be silent before the master takes it for hung."""
    return max(1.0, lease_s / BEATS)


class Keeper:
    """One keeper process."""

    def __init__(self, pool: Pool, segment: Segment, control_fd: int, report_fd: int, master: int) -> None:
        """Take over the signals; nothing is connected yet.

        Arguments:
            pool: whose lease to keep.
            segment: of that pool, open for writing.
            control_fd: from the master; its end means that the master is gone.
            report_fd: one byte written here wakes the master.
            master: its pid.
        """
        self._pool, self._segment, self._master = pool, segment, master
        self._control_fd, self._report_fd = control_fd, report_fd
        self._keep, self._fence = segment.keep, Fence(segment.keep)
        self._wake_fd = _wakeup()
        os.set_blocking(control_fd, False)
        source, self._lease_s = pool.spec.source, pool.fleet.lease_s
        self._source = (source.stream, source.group, source.instance)
        view = self._keep.view
        view[K.PID], view[K.LEADING] = os.getpid(), 0
        view[K.TOKEN] = view[K.TOKEN] or random.SystemRandom().randrange(1, 1 << 63)
        self._who = beat.Who(
            source.stream,
            source.group,
            source.instance,
            f"{view[K.TOKEN]:016x}",
            f"{socket.gethostname()} pid {master}",
            int(self._lease_s * 1000),
            tuple(counter.name.lower() for counter in Swept),
        )
        self._name = f"instance {source.instance} of {pool.title}"
        self._slice_s = limit_s(self._lease_s) / 4
        self._line = Line(
            source.target,
            f"{source.instance}:keeper",
            max(0.3, self._lease_s * _PATIENCE),
            self._slice_s,
            self._turn,
            self._wake_fd,
        )
        self._crew = Crew(segment, self._name, _LET_GO_BEATS, self._lease_s / BEATS)
        told = self._complaints = Complaints(pool.title, self._keep)
        self._lead = Lead(pool, self._keep, self._line.call, self._crew.most_attempts, told)
        names = (source.stream, source.group)
        self._gauge = Gauge(pool.rules.scale, self._keep, *names, self._line.call, told)
        beside = self._second_line(pool)
        self._lender = Lender(pool, segment, beside, self._ring, told)
        self._switchboard = Switchboard(pool.title, names, segment, beside, self._wake_slots, told)
        self._due = 0.0  # of the next beat, monotonic
        self._strangers_due = 0.0
        self._held = self._checked = False  # `_checked`: who was robbed before this term is known
        self._told = self._orphan = self._release = False
        self._page = beat.START
        self._drained = False
        self._holder = ""
        self._trusted = self._fence.holds

    def _second_line(self, pool: Pool) -> Line:
        """Return the lender's: the first is most often busy, with a wait for a word."""
        source = pool.spec.source
        patience_s = min(_LEND_PATIENCE_S, self._lease_s * _PATIENCE)
        name = f"{source.instance}:lender"
        return Line(source.target, name, patience_s, self._slice_s, self._live, self._wake_fd, asks_role=True)

    def run(self) -> int:
        """Keep the lease until told to end; return the exit code."""
        self._turn()
        while not self._is_over():
            try:
                if self._line.connect():
                    self._work()
            except Lost as error:
                self._due = 0.0
                self._line.fail(str(error))
            self._mention()
        if self._release:
            self._let_go()
        return os.EX_OK

    # Being told

    def _live(self) -> float:
        """Show that this process lives; return when to do so again."""
        now = self._keep.real[K.BEAT] = time.monotonic()
        logsink.settle()
        return now + self._slice_s

    def _turn(self) -> float:
        """Live, take note of what we are told, glance at the slots; return when to do so again."""
        due = self._live()
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_fd, 4096)
        if not self._orphan:
            with contextlib.suppress(BlockingIOError):
                said = os.read(self._control_fd, 4096)
                self._release = self._release or RELEASE in said
                self._told = self._told or END in said
                if not said and not self._told and not self._release:
                    self._orphan = True
                    words = "%s: the master is gone: the lease is kept while workers are there"
                    log.warning(words, self._name)
        now = time.monotonic()
        if now >= self._strangers_due:
            self._strangers_due = now + self._slice_s
            self._crew.mind_strangers(orphaned=self._orphan)
        may_lend = not self._wanted_elsewhere() and self._keep.view[K.PID] == os.getpid()
        lend = self._lender.glance(may_lend=may_lend)  # first: it says that it is calm before we look
        may_act = may_lend and self._held and not self._line.trouble
        return min(due, self._strangers_due, lend, self._switchboard.glance(may_act=may_act))

    def _is_over(self) -> bool:
        if self._told or self._release:
            return True
        if not self._orphan:
            return False
        if self._keep.view[K.PID] != os.getpid():
            return True  # the keeper of a new master
        if not self._crew.is_empty:
            return False
        # With the pool's lock in hand nobody can go on with this lease; it is not given back before we end.
        self._release = self._segment.lock_pool() is not None
        return True

    def _wanted_elsewhere(self) -> bool:
        return self._told or self._release or self._orphan

    # Work

    def _work(self) -> None:
        """Beat, sweep, listen: what is due."""
        now = time.monotonic()
        if now >= self._due:
            self._beat()
        if not self._held:
            self._line.rest(max(0.0, self._due - time.monotonic()))
            return
        if not self._lead.sweep():
            self._due = 0.0
        self._gauge.measure()
        due = min(self._due, self._lead.due, self._gauge.due)
        if self._orphan:
            self._line.rest(min(_ORPHAN_S, max(0.0, due - time.monotonic())))
        elif (left := due - time.monotonic()) > _LISTEN_LEAST_S:
            said = self._line.listen(beat.listen(self._who, left), left, self._wanted_elsewhere)
            if isinstance(said, Exception):  # it may not wait: orders and entries come with the beats
                self._line.rest(max(0.0, due - time.monotonic()))
            else:
                self._hear(beat.heard(said))
        elif left > 0:
            self._line.rest(left)

    def _hear(self, word: bytes | None) -> None:
        if word is None:
            return
        if word.isdigit() and len(word) < 10 and int(word) < self._segment.capacity:
            self._crew.hand([int(word)])
            self._ring()
        else:  # orders, or somebody who knows more than we do
            self._due = 0.0

    def _beat(self) -> None:
        """Say that we are there, and take note of all that is answered."""
        self._due = time.monotonic() + self._lease_s / BEATS
        slots, gone = self._crew.look()
        if fleet.DOWN in self._crew.states.values():  # others should hear soon that it has booted
            self._due = min(self._due, time.monotonic() + _BOOTING_S)
        for _ in range(_PAGES):
            page = self._page if self._page[0] <= len(slots) + len(gone) else beat.START
            sent = boot_time()
            (reply,) = self._line.call(beat.beat(self._who, self._report(), slots, gone, page))
            if isinstance(reply, Exception):
                raise Lost(f"{self._pool.spec.source.target}: {reply}")
            said = beat.parse(reply)
            heed(said.trouble)
            self._line.fine()
            if not said.lease.held:
                self._wait_for(said.lease.holder, said.lease.left_ms)
                return
            self._take(said, sent)
            self._crew.let_go(gone, said.let_go)
            rested = self._crew.rested(slots, said.resting)
            if said.more is None:
                rested += self._crew.find_taken(self._source, self._line.call)
            if rested:
                self._crew.hand(rested)
                self._ring()
            self._page = said.more or beat.START
            if said.more is None:
                self._gauge.count_fleet()
                return

    def _wait_for(self, holder: str, left_ms: int) -> None:
        """Another has the lease of this name."""
        self._held = self._checked = False
        self._lead.drop()
        self._keep.real[K.UNTIL] = 0.0
        if holder != self._holder:
            self._holder = holder
            log.warning(
                "%s runs already, on %s: waiting for it to end; give this pool another --instance if both"
                " are to run", self._name, one_line(holder, 200),
            )  # fmt: skip
        jitter = 0.8 + 0.4 * random.random()  # noqa: S311 - no secret
        self._due = time.monotonic() + min(_ASK_S * jitter, max(0, left_ms) / 1000 + 0.01)

    def _take(self, said: beat.Beat, sent: float) -> None:
        """Act on an answer; the trust in the lease begins here."""
        view, lease = self._keep.view, said.lease
        if not lease.unbroken or lease.epoch != view[K.EPOCH] or not self._checked:
            if not lease.unbroken or lease.epoch != view[K.EPOCH]:
                if view[K.EPOCH]:
                    words = "%s: the lease was lost for a while and is held again, epoch %d, term %d"
                    log.warning(words, self._name, lease.epoch, view[K.TERM] + 1)
                else:
                    log.info("%s: holds its lease, epoch %d", self._name, lease.epoch)
                count_up(view, K.TERM)
                view[K.EPOCH] = 0  # until all is done that a new term needs: who dies here leaves it to do
            self._crew.find_robbed(self._source, self._line.call)
            if self._crew.find_strays(self._source, self._line.call):
                self._due = 0.0
            view[K.EPOCH], self._checked = lease.epoch, True
        self._note_size(said)
        self._note_pause(said)  # who waits for the trust must not find the fence open for an instant
        self._keep.real[K.UNTIL] = sent + TRUSTED * self._lease_s
        self._held, self._holder = True, ""
        if not self._trusted and self._fence.holds:
            self._trusted = True
            self._ring()
        for counter, count in zip(Swept, said.swept, strict=True):
            view[K.SWEPT + counter] = count
        self._lead.note(said, sent)
        self._drain_if_told(said)
        if not said.trouble:
            self._complaints.over(Part.PENDING)
        elif not said.trouble.startswith(("NOGROUP", "ERR no such key")):
            self._complaints.add(Part.PENDING, said.trouble)

    def _note_pause(self, said: beat.Beat) -> None:
        paused = said.pause is not None
        if paused != bool(self._keep.view[K.PAUSED]):
            self._keep.view[K.PAUSED] = int(paused)
            words = f"paused, nothing is started, by order{_by(said.pause)}" if paused else "resumed"
            log.warning("%s: %s", self._pool.title, words)
            if paused:
                self._wake_slots()
            self._ring()

    def _note_size(self, said: beat.Beat) -> None:
        """Tell the master how many workers an operator wants."""
        if said.size is None or (workers := orders.size(said.size)) is None:
            return  # nobody ever wanted anything, or what stands there is no order
        given = orders.order(said.size)
        if (workers, given.at) == (self._keep.view[K.ORDERED], self._keep.real[K.ORDER_AT]):
            return
        self._keep.view[K.ORDERED], self._keep.real[K.ORDER_AT] = workers, given.at
        words = f"{workers} workers" if workers else "as many workers as it thinks best"
        log.warning("%s: %s by order%s", self._name, words, _by(said.size))
        self._ring()

    def _drain_if_told(self, said: beat.Beat) -> None:
        if said.drain is None or self._drained or self._orphan:
            return
        self._drained = True
        try:
            self._line.call(beat.forget_order(self._who))
        finally:  # if the line broke, the order may be gone or not: this is the one time that it is seen
            stopping = self._segment.pool.view[P.STATE] == PoolState.STOPPING
            if os.getppid() == self._master and not stopping:
                log.warning("%s: drained by order%s", self._name, _by(said.drain))
                os.kill(self._master, signal.SIGTERM)

    def _report(self) -> bytes:
        real = self._segment.pool.real
        return fleet.Report(
            socket.gethostname(), self._master, __version__, real[P.STARTED], time.time(), self._lease_s,
            self._crew.states, real[P.RATE], real[P.BUSY], self._complaints.lasting(),
            *self._crew.lost(), marks=self._crew.marks(),
        ).encode()  # fmt: skip

    def _let_go(self) -> None:
        """Release both leases, so that others need not wait until they have run out."""
        self._keep.real[K.UNTIL], self._keep.view[K.LEADING] = 0.0, 0
        if not self._held:
            return
        try:
            if self._line.connect():
                done = (beat.forget_order(self._who),) if self._drained else ()
                self._line.call(beat.report(self._who, self._report()), *done, *beat.release(self._who))
                self._keep.view[K.EPOCH] = 0  # given back: the next to have it has not lost it
                return
        except Lost as error:
            self._line.trouble = str(error)
        words = "%s: the lease is not released, it runs out by itself: %s"
        log.warning(words, self._name, self._line.trouble)

    def _mention(self) -> None:
        """Say what is wrong, when it begins to matter, and when that is over."""
        trouble = self._line.trouble
        if self._trusted and not self._fence.holds:
            self._trusted = False
            if not self._wanted_elsewhere():
                log.error(
                    "%s: its lease cannot be trusted any more, workers stand by: %s",
                    self._name, trouble or "no beat was answered in time",
                )  # fmt: skip
        if trouble:
            self._complaints.add(Part.LEASE, trouble, after_s=LASTS_S)
        elif self._held:
            self._complaints.over(Part.LEASE)

    def _wake_slots(self) -> None:
        """Let all slots look: one that waits for the reply to a read would be given entries."""
        self._crew.hand(list(self._crew.states))
        self._ring()

    def _ring(self) -> None:
        """Wake the master."""
        with contextlib.suppress(OSError):
            os.write(self._report_fd, b"k")


def _wakeup() -> int:
    """Take SIGTERM and nudges; return the descriptor that becomes readable when one has come."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)  # first: no signal goes unheard
    for number in (signal.SIGTERM, NUDGE):
        signal.signal(number, lambda _number, _frame: None)
    return reader


def _by(order: bytes | None) -> str:
    """Return who gave an order, when and why."""
    given = orders.order(order or b"")
    when = time.strftime(" at %Y-%m-%d %H:%M:%S UTC", time.gmtime(given.at)) if 0 < given.at < 1 << 33 else ""
    why = f": {one_line(given.reason, 200)}" if given.reason else ""
    return f" of {one_line(given.by, 60)}{when}{why}"
