"""The master: wait, step, perform. It runs no user code, asks no server, and waits for no child."""

from __future__ import annotations

import logging
import math
import os
import random
import socket
import subprocess
import time

import setproctitle

from ..ipc import exitcodes, logsink
from ..ipc.cells import K, P, PoolState, S, SeatState, count_up
from ..ipc.fence import Fence
from ..ipc.segment import Segment
from ..worker.handler import Handler
from . import reexec
from .hands import Hands
from .horizon import Horizon
from .link import Link
from .notify import Notifier
from .policy import begin, next_deadline, step
from .reexec import Legacy
from .scaling import Outlook
from .settings import Pool
from .shell import Doorbell, look
from .states import Action, Event, Leave, Ordered, Phase, Resized, Rules, Sight, Signalled, Stage, Tell

log = logging.getLogger("rsq.master")

_MEMORY_EVERY_S = 5.0
_ASK_EVERY_S = 10.0
_STATES = {
    Phase.VACANT: SeatState.BACKOFF, Phase.STARTING: SeatState.STARTING, Phase.RUNNING: SeatState.RUNNING,
    Phase.DRAINING: SeatState.DRAINING, Phase.CLOSED: SeatState.RETIRED,
}  # fmt: skip


class Master:
    """One pool's master."""

    def __init__(
        self,
        pool: Pool,
        segment: Segment,
        lock_fd: int,
        handler: Handler | None,
        listener: socket.socket | None,
        legacy: Legacy | None,
        notifier: Notifier,
        server: subprocess.Popen[bytes] | None,
        link: Link | None,
    ) -> None:
        """Take over what the command line has prepared.

        Arguments:
            pool: what to run.
            segment: of the pool, its slots open.
            lock_fd: the pool's lock, held.
            handler: imported; None when workers import it themselves.
            listener: the bound metrics socket.
            legacy: what the master before us in this process has left.
            notifier: the service manager.
            server: the embedded server, when there is one and it is ours.
            link: to the root above; None without one.
        """
        self._pool, self._link = pool, link
        self._segment, self._notifier, self._fence = segment, notifier, Fence(segment.keep)
        self._bell = Doorbell((legacy.report[0], legacy.report[1]) if legacy else None, link)
        self._hands = Hands(pool, segment, lock_fd, handler, listener, self._bell, server, link)
        self._hands.environment = {**notifier.export(), **(link.export() if link else {})}
        self._hands.private = (lock_fd, *self._bell.fds, notifier.fileno)
        if legacy:
            self._hands.adopt(legacy)
        rules, wanted = self._pool.rules, first_size(self._pool.rules, segment)
        beyond = range(wanted, segment.capacity)
        dirty = [
            slot for slot in beyond if segment.used(slot) and look(segment, slot, None, memory=False).held
        ]
        self._state = begin(rules, list(self._hands.workers) if legacy else None, dirty, wanted)
        self._horizon = None if rules.scale is None else Horizon(segment, rules.scale)
        self._ordered = (0, 0.0)  # the order that was carried out
        self._memory_at = self._asked_at = 0.0
        self._code: int | None = None
        reexec.taken_over()

    def run(self) -> int:
        """Supervise until the pool has ended; return the exit code."""
        cells = self._segment.pool
        setproctitle.setproctitle(f"rsq: master {self._pool.title}")
        cells.view[P.MASTER_PID] = os.getpid()
        logsink.count_in(cells.view, P.LOST_LINES)
        if not any(self._segment.slot_holder(slot) for slot in range(self._segment.capacity)):
            self._segment.keep.real[K.UNTIL] = 0.0  # it may be of another life of this machine
        if not self._hands.generation:  # a reload goes on with the same uptime
            cells.real[P.STARTED] = time.time()
        cells.view[P.METRICS_PORT] = self._hands.port
        cells.view[P.GENERATION] = self._hands.generation
        cells.view[P.ROOT_PID] = self._link.root if self._link else 0
        if self._link is not None:
            cells.view[P.EXPORTER_PID] = 0
        cells.view[P.EMPTY] = 0
        source = self._pool.spec.source
        log.info("pool %s, instance %s, on %s", self._pool.title, source.instance, source.target)
        self._publish()
        self._hands.helpers["keeper"].ensure(time.monotonic())  # first of all: workers wait for its lease
        while self._code is None:
            self.tick()
            if self._link is not None and self._link.is_cut and self._code is None:
                return self._abandon()
        self._hands.end_helpers()
        cells.view[P.STATE] = PoolState.GONE
        log.info("ended")
        return self._code

    def _abandon(self) -> int:
        """End as if killed: workers finish what they run, and the keeper keeps the lease until then."""
        log.error("the root is gone: leaving; workers finish what they run, hand back the rest and go")
        return exitcodes.UNAVAILABLE

    def tick(self) -> None:
        """Wait, step, perform: one pass."""
        rules = self._pool.rules
        now = time.monotonic()
        due = min(next_deadline(self._state, rules, now), self._hands.next_deadline())
        due = min(due, now + (self._notifier.watchdog_interval_s or math.inf))
        events: list[Event] = [Signalled(name) for name in self._bell.wait(due - now)]
        events += [*self._hands.gather(), *self._orders()]
        now = time.monotonic()
        left_s = self._fence.left_s
        self._state, actions = step(
            self._state, events, self._look(now), now, rules, random.random, left_s, self._outlook(now)
        )
        for action in actions:
            self._perform(action)
        logsink.settle()
        if self._code is None:
            self._hands.ensure_helpers(now, stopping=self._state.stage is Stage.STOPPING)
        self._publish()
        self._keep_patience(now)

    def _look(self, now: float) -> dict[int, Sight]:
        """Return what the segment shows of every slot that the policy knows."""
        memory = bool(self._pool.rules.max_growth) and now >= self._memory_at + _MEMORY_EVERY_S
        if memory:
            self._memory_at = now
        sights = {}
        for slot, seat in self._state.seats.items():
            if not self._segment.used(slot) and seat.phase in (Phase.VACANT, Phase.CLOSED):
                continue
            pid = self._hands.pid(slot)
            # The first measure is what growth is counted from: it does not wait for its turn.
            first = bool(self._pool.rules.max_growth) and seat.baseline is None
            sights[slot] = look(self._segment, slot, pid, memory=memory or first)
        return sights

    def _orders(self) -> list[Event]:
        """Return what an operator wants by now, if that is new."""
        keep = self._segment.keep
        found = (keep.view[K.ORDERED], keep.real[K.ORDER_AT])
        if found == self._ordered:
            return []
        self._ordered = found
        return [Ordered(found[0])]

    def _outlook(self, now: float) -> Outlook | None:
        """Return what waits for a pool that scales itself."""
        if self._horizon is None or now < self._state.meter.at + self._horizon.every_s:
            return None
        return self._horizon.look({slot: child.pid for slot, child in self._hands.workers.items()}, now)

    def _perform(self, action: Action) -> None:
        match action:
            case Tell(what, words):
                self._tell(what, words)
            case Resized(_, why):
                cells = self._segment.pool
                count_up(cells.view, P.SCALED + 2 * why)
                cells.real[P.SCALED + 2 * why + 1] = time.time()
            case Leave(code):
                self._code = code
            case _:
                self._hands.perform(action)

    def _tell(self, what: str, words: str) -> None:
        cells = self._segment.pool.view
        match what:
            case "ready":
                self._notifier.ready(self._state.status)
            case "reloading":
                self._notifier.reloading()
            case "reload failed":
                count_up(cells, P.RELOADS_FAILED)
            case "stopping":
                self._notifier.stopping()
            case "empty":
                cells[P.EMPTY] = int(words)
            case "status":
                self._notifier.status(words)

    def _keep_patience(self, now: float) -> None:
        """Show that supervision is alive, and that a long start or drain is no hang."""
        self._notifier.watchdog()
        if self._state.stage is not Stage.RUNNING and now >= self._asked_at + _ASK_EVERY_S:
            self._asked_at = now
            self._notifier.extend_timeout(3 * _ASK_EVERY_S)

    def _publish(self) -> None:
        """Write into the segment what readers want to know of the master."""
        cells, state = self._segment.pool, self._state
        stage = {Stage.STARTING: PoolState.STARTING, Stage.STOPPING: PoolState.STOPPING}.get(
            state.stage, PoolState.RELOADING if state.trial or state.rolling else PoolState.RUNNING
        )
        cells.view[P.STATE], cells.view[P.WORKERS] = stage, state.wanted
        scale = self._pool.rules.scale
        cells.view[P.LEAST], cells.view[P.MOST] = (scale.least, scale.most) if scale else (0, 0)
        cells.view[P.BY_HAND] = state.by_hand
        cells.real[P.BUSY], cells.real[P.RATE] = state.meter.busy, state.meter.rate
        for slot, seat in state.seats.items():
            if not self._segment.used(slot):
                continue
            view = self._segment.slot(slot).seat
            child = self._hands.workers.get(slot)
            view.view[S.PID] = child.pid if child else 0
            view.view[S.STATE] = SeatState.HELD if seat.told_held else _STATES[seat.phase]
            view.real[S.NEXT_SPAWN] = seat.due
            view.real[S.DRAINS_AT] = seat.drains_at
        cells.real[P.HEARTBEAT] = time.monotonic()


def first_size(rules: Rules, segment: Segment) -> int:
    """Return how many slots a new master wants: of a pool that scales itself, as many as there were.

    After a reload, or a master that was killed, its size is known and probably right; a pool that had ended
    in order begins with the least.
    """
    cells = segment.pool.view
    if rules.scale is None or cells[P.STATE] == PoolState.GONE:
        return rules.workers
    return rules.scale.clamp(cells[P.WORKERS])
