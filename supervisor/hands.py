"""The hands: the one place where a decision of the policy becomes a fork, a signal, an exec."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import setproctitle

from ..ipc import logsink
from ..ipc.cells import D, K, P, S, count_up
from ..ipc.exitcodes import detail_of
from ..ipc.segment import Segment, SegmentError
from ..streams import embedded
from ..streams.url import place
from ..worker import child as worker
from ..worker.controls import DRAIN, WAKE
from ..worker.handler import Handler
from . import exporter, keeper, logs, reexec, trial
from .gallery import One
from .helpers import Helper, Pulse
from .leftovers import Leftovers
from .link import Link
from .settings import Pool
from .shell import Doorbell, tell_kept
from .spawn import Child, end_with, fork, reap
from .states import (
    Action,
    Drain,
    Event,
    Exited,
    Fork,
    Freeze,
    Halted,
    Kill,
    KillStranger,
    Record,
    Reexec,
    Refused,
    ReopenLogs,
    Say,
    TellKept,
    Thaw,
    Tried,
    Try,
    Unforkable,
    Wake,
)

log = logging.getLogger("rsq.master")

_KEEPER_PAUSE_S = 0.5  # the trust in the lease lasts for two thirds of a second at least


class Hands:
    """The children of one pool, and what is done to them."""

    def __init__(
        self,
        pool: Pool,
        segment: Segment,
        lock_fd: int,
        handler: Handler | None,
        listener: socket.socket | None,
        bell: Doorbell,
        server: subprocess.Popen[bytes] | None,
        link: Link | None,
    ) -> None:
        """Take over what the command line has prepared; see `Master`."""
        self._pool, self._segment, self._lock_fd, self._handler = pool, segment, lock_fd, handler
        self._listener, self._bell, self._link = listener, bell, link
        self._failed: list[Event] = []
        self._trial: trial.Trial | None = None
        self.generation = 0
        self.private: tuple[int, ...] = ()  # descriptors of the master's that no child may keep
        self.environment: dict[str, str] = {}  # what a new master needs and children must not see
        self.workers: dict[int, Child] = {}
        self.gone: dict[int, int] = {}  # slot -> pid of a process that ended in this pass
        self._leftovers = Leftovers()
        self.helpers = {
            "keeper": Helper(
                "keeper", self._start_keeper, pause_max_s=_KEEPER_PAUSE_S, last_word=keeper.RELEASE
            )
        }
        if link is None:
            self.helpers["exporter"] = Helper("exporter", self._start_exporter)
        self._pulse = Pulse(keeper.limit_s(pool.fleet.lease_s))
        if link is None and pool.spec.source.target.data is not None:
            self._server = server  # kept: a forgotten Popen reaps behind our back
            known = Child(server.pid, -1) if server else None
            self.helpers["embedded server"] = Helper("embedded server", self._start_server, known)

    def adopt(self, legacy: reexec.Legacy) -> None:
        """Take over the children of the master that this process was before."""
        self.generation = legacy.generation + 1
        self.workers = {int(slot): Child(pid, fd) for slot, (pid, fd) in legacy.workers.items()}
        for worker_ in self.workers.values():
            worker_.signal(signal.SIGCONT)  # one may have been frozen, and nobody would remember it
        for name, (pid, fd) in legacy.helpers.items():
            child = Child(pid, fd)
            if name in ("exporter", "keeper"):
                if name == "keeper":
                    child.say(keeper.END)
                child.signal(signal.SIGTERM)  # its code is old too; a new one is forked when it has gone
                child.close()
            elif name in self.helpers:
                self.helpers[name].child = child

    def gather(self) -> list[Event]:
        """Return what has happened to the children since the last time."""
        events, self._failed = self._failed, []
        self.gone.clear()
        by_pid = {child.pid: slot for slot, child in self.workers.items()}
        now = time.monotonic()
        self._leftovers.look(self._known_pids())
        for pid, status in reap():
            slot = by_pid.get(pid)
            if os.WIFSTOPPED(status):
                if slot is not None:
                    events.append(Halted(slot))
            elif slot is not None:
                self.gone[slot] = pid
                self.workers.pop(slot).close()
                events.append(Exited(slot, detail_of(status)))
            elif self._trial is not None and pid == self._trial.process.pid:
                self._trial.process.returncode = os.waitstatus_to_exitcode(status)
            else:
                for helper in self.helpers.values():
                    if helper.child is not None and helper.child.pid == pid:
                        helper.gone(status, now)
                        break
                else:
                    self._leftovers.reaped(pid)
                    log.debug("reaped process %d, which was not ours", pid)
        self._leftovers.press_on(self._known_pids(), now, orphaned=bool(self.gone))
        if self._trial is not None and (verdict := self._trial.verdict()) is not None:
            self._trial = None
            events.append(Tried(verdict.words, verdict.code))
        return events

    def _known_pids(self) -> set[int]:
        """Return the children that this master has started itself."""
        known = {child.pid for child in self.workers.values()}
        known |= {helper.child.pid for helper in self.helpers.values() if helper.child is not None}
        return known if self._trial is None else known | {self._trial.process.pid}

    @property
    def port(self) -> int:
        """Return the port on which metrics are served, 0 when they are not."""
        if self._link is not None:
            return self._link.port
        return 0 if self._listener is None else int(self._listener.getsockname()[1])

    def pid(self, slot: int) -> int | None:
        """Return the pid of a slot's process, or of the one that has just ended there."""
        return self.workers[slot].pid if slot in self.workers else self.gone.get(slot)

    def next_deadline(self) -> float:
        """Return when a helper is to be started again or looked at, in monotonic seconds."""
        due = min((helper.due for helper in self.helpers.values() if helper.child is None), default=math.inf)
        due = min(due, self._leftovers.due)
        return min(due, self._pulse.due) if self.helpers["keeper"].child else due

    def ensure_helpers(self, now: float, *, stopping: bool) -> None:
        """Start helpers that are due; while the pool stops, only what its workers cannot do without."""
        helper = self.helpers["keeper"]
        if helper.child is not None and self._pulse.late(self._segment.keep.real[K.BEAT], now):
            log.error("keeper: no sign of life for %.1f s: killed", self._pulse.limit_s)
            helper.child.signal(signal.SIGKILL)
            self._pulse.begin(now)
        for name, helper in self.helpers.items():
            if name == "keeper" or not stopping:
                helper.ensure(now)

    def end_helpers(self) -> None:
        """End them, the server last: the exporter may still want to look."""
        if self._trial is not None:
            self._trial.end()
        self._leftovers.end(self._known_pids())
        for helper in self.helpers.values():
            helper.stop(10.0)

    def perform(self, action: Action) -> None:
        """Do one thing that the policy has decided."""
        match action:
            case Fork(slot, retire, first):
                self._fork(slot, retire=retire, first=first)
            case Drain(slot) | Wake(slot) | Freeze(slot) | Thaw(slot) | Kill(slot):
                if slot in self.workers:  # else: it has ended in this very pass
                    self._tell(self.workers[slot], action)
            case KillStranger():
                self._kill_stranger(action)
            case TellKept(slot):
                tell_kept(self._segment, slot)
            case Record():
                self._record(action)
            case Try():
                self._try()
            case Reexec(code):
                self._reexec(code)
            case ReopenLogs():
                logsink.reopen()
                log.info("log file opened again")
            case Say(level, words):
                getattr(log, level)(words)

    def _fork(self, slot: int, *, retire: bool, first: bool) -> None:
        try:
            self._segment.open_slot(slot)
            birth = worker.Birth(
                self._pool.spec,
                slot,
                self._segment,
                self._handler,
                self._bell.report_w,
                first,
                retire,
                os.getpid(),
            )
            self.workers[slot] = fork(lambda control: self._work(birth, control), self._own_fds())
        except (OSError, SegmentError) as error:
            self._failed.append(Unforkable(slot, str(error)))
            return
        self._segment.slot(slot).seat.real[S.SPAWNED] = time.monotonic()

    def _work(self, birth: worker.Birth, control: int) -> None:
        """Be a worker, in its process."""
        logs.give_back()
        logsink.count_in(self._segment.slot(birth.slot).desk.view, D.LOST_LINES)
        worker.run(birth, control)

    def _tell(self, child: Child, action: Action) -> None:
        match action:
            case Drain():
                child.say(DRAIN)
                child.signal(signal.SIGTERM)
            case Wake():
                child.say(WAKE)
            case Freeze():
                child.signal(signal.SIGSTOP)
            case Thaw():
                child.signal(signal.SIGCONT)
            case Kill(slot, cause, place, explain):
                if explain:
                    seat = self._segment.slot(slot).seat.view
                    seat[S.CONDEMNED], seat[S.DETAIL], seat[S.CAUSE] = place, signal.SIGKILL, cause
                child.signal(signal.SIGKILL)

    def _record(self, record: Record) -> None:
        seat, death = self._segment.slot(record.slot).seat.view, record.death
        if record.explain:
            seat[S.DETAIL], seat[S.CAUSE] = death.detail, death.cause
        if record.count:
            count_up(seat, S.RESTARTS + death.cause)

    def _kill_stranger(self, kill: KillStranger) -> None:
        """Kill a process that is not our child: by a descriptor, for its pid may be another's by now."""
        slot, pid = kill.slot, kill.pid
        try:
            handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        except ProcessLookupError:
            return
        if self._segment.slot_holder(slot) == pid:
            seat = self._segment.slot(slot).seat.view
            seat[S.CONDEMNED], seat[S.DETAIL], seat[S.CAUSE] = kill.place, signal.SIGKILL, kill.cause
            if handle is None:
                os.kill(pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        if handle is not None:
            os.close(handle)

    def _start_exporter(self) -> Child:
        master = os.getpid()

        def run(control: int) -> None:
            end_with(master)  # the next master needs the port
            setproctitle.setproctitle(f"rsq: exporter {self._pool.title}")
            logsink.count_in(self._segment.pool.view, P.EXPORTER_LOST_LINES)
            os._exit(exporter.run(One(self._segment), self._listener, control))

        child = fork(
            run, (fd for fd in self._own_fds() if self._listener is None or fd != self._listener.fileno())
        )
        self._segment.pool.view[P.EXPORTER_PID] = child.pid
        return child

    def _start_keeper(self) -> Child:
        master = os.getpid()

        def run(control: int) -> None:
            setproctitle.setproctitle(f"rsq: keeper {self._pool.title}")
            code = 70
            logsink.count_in(self._segment.keep.view, K.LOST_LINES)
            try:
                made = keeper.Keeper(self._pool, self._segment, control, self._bell.report_w, master)
                code = made.run()
            except BaseException:
                log.exception("keeper: its process ends")
            finally:
                logsink.settle(logsink.LAST_WORDS_S)
                os._exit(code)

        child = fork(run, self._own_fds())
        self._segment.pool.view[P.KEEPER_PID] = child.pid
        self._pulse.begin(time.monotonic())
        return child

    def _start_server(self) -> Child:
        data = self._pool.spec.source.target.data
        assert data is not None
        self._server = embedded.start(data, wait_s=0)
        return Child(self._server.pid, -1)

    def _own_fds(self) -> Iterator[int]:
        """Yield the descriptors that no child may keep: another child's pipe would hide our death from it."""
        yield from (fd for fd in self.private if fd >= 0)
        if self._trial is not None:
            yield from (self._trial.word_fd, self._trial.guard_fd)
        if self._listener is not None:
            yield self._listener.fileno()
        for child in self.workers.values():
            yield child.control_fd
        for helper in self.helpers.values():
            if helper.child is not None and helper.child.control_fd >= 0:
                yield helper.child.control_fd

    def _try(self) -> None:
        if self._trial is not None:
            self._trial.end()
            self._trial = None
        identity, rules = self._segment.identity, self._pool.rules
        same = [identity.stream, identity.group, identity.instance]
        same += [place(self._pool.spec.source.target), str(self._segment.path.parent)]
        begun = trial.begin({"pool": same}, rules.reload_s)
        if isinstance(begun, trial.Trial):
            self._trial = begun
        else:
            self._failed.append(Tried(begun.words))

    def _reexec(self, code: str) -> None:
        log.info("the new code imports (%s): starting again in the same process", code)
        identity = self._segment.identity
        helpers = {
            n: [h.child.pid, h.child.control_fd] for n, h in self.helpers.items() if h.child is not None
        }
        left = reexec.Legacy(
            [identity.stream, identity.group, identity.instance],
            self._lock_fd,
            [self._bell.report_r, self._bell.report_w],
            -1 if self._listener is None else self._listener.fileno(),
            {str(slot): [child.pid, child.control_fd] for slot, child in self.workers.items()},
            helpers,
            self.generation,
            self.environment,
            -1 if self._link is None else self._link.fd,
            code,
        )
        self._failed.append(Refused(reexec.again(left, self._bell.hold_back, self._bell.let_go)))
