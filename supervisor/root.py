"""The root: above the masters of several pools, what a service manager is above one.

Wait, step, perform, as in `master`. It imports no user code, asks no server and waits for no child. It starts
each master as a program of its own, so that one pool's code and memory are nothing to another's, and it
has the one exporter that shows them all.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import setproctitle

from ..ipc import logsink
from ..ipc.cells import D, P, PoolState
from ..ipc.exitcodes import EXITED, detail_of
from ..ipc.segment import Segment
from ..streams import embedded
from ..streams.connection import Target
from ..worker.tally import finished
from . import early, exporter, link, reexec, roster, runtime, trial
from .gallery import Heartbeat, Many
from .given import take
from .helpers import Helper, Pulse
from .notify import Notifier
from .reexec import RootLegacy
from .rootpolicy import begin, next_deadline, step
from .rootstates import LISTENING, Action, End, Event, Gone, Kill, Leave, Phase, Prepared, Send, Sight, Start
from .roster import Member
from .shell import Doorbell
from .spawn import Child, end_with, fork, reap
from .starting import embedded_server, listen
from .states import Reexec, Refused, ReopenLogs, Say, Signalled, Stage, Tell, Tried, Try

log = logging.getLogger("rsq.root")

HUNG_S = 60.0  # without a full pass of a master
_ASK_EVERY_S = 10.0


def start(members: Sequence[Member], legacy: RootLegacy | None) -> int:
    """Prepare what the pools share, then keep them; return the exit code.

    Arguments:
        members: the pools.
        legacy: what the root before us in this process has left.
    """
    setproctitle.setproctitle(f"rsq: root {', '.join(member.name for member in members)}")
    notifier = Notifier(legacy.environment if legacy else None)
    shared = members[0].pool
    directory = runtime.runtime_dir(shared.runtime_dir).resolve()
    listener = listen(shared.metrics, legacy.listener_fd if legacy else -1)
    return Root(members, directory, listener, legacy, notifier).run()


class Root:
    """One root process."""

    def __init__(
        self,
        members: Sequence[Member],
        directory: Path,
        listener: socket.socket | None,
        legacy: RootLegacy | None,
        notifier: Notifier,
    ) -> None:
        """Take over what is prepared, and start the embedded servers.

        Arguments:
            members: the pools.
            directory: where their segments lie.
            listener: the bound metrics socket, None for none.
            legacy: what the root before us in this process has left.
            notifier: the service manager.

        Raises:
            Failure: an embedded server does not start.
        """
        self._listener, self._notifier = listener, notifier
        self._pools = roster.fixed(members, str(directory))
        self._reload_s = max(member.pool.rules.reload_s for member in members)
        self._until_empty = any(member.pool.rules.until_empty for member in members)
        self._places = [(member.name, directory / member.pool.identity.filename) for member in members]
        self._heartbeat = Heartbeat()
        logsink.count_in(self._heartbeat.lost, 0)
        self._gallery = Many(self._places, self._heartbeat, writable=False)
        self._helpers = {"exporter": Helper("exporter", self._start_exporter)}
        self._servers: list[subprocess.Popen[bytes]] = []  # kept: a forgotten Popen reaps behind our back
        self._masters: dict[str, Child] = {}
        self._popens: dict[str, subprocess.Popen[bytes]] = {}
        self._pulses: dict[str, Pulse] = {}
        self._trial: trial.Trial | None = None
        self._failed: list[Event] = []
        self._asked_at, self._code = 0.0, -1
        self._embed({member.pool.spec.source.target for member in members}, legacy.helpers if legacy else {})
        self._bell = Doorbell()
        found = None if legacy is None else self._adopt(legacy)
        self._state = begin([member.name for member in members], found)
        reexec.taken_over()

    def run(self) -> int:
        """Keep the pools until all have ended; return the exit code."""
        while self._code < 0:
            self.tick()
        for helper in self._helpers.values():  # the servers last: masters needed them to the end
            helper.stop(10.0)
        if self._trial is not None:
            self._trial.end()
        return self._code

    def tick(self) -> None:
        """Wait, step, perform: one pass."""
        now = time.monotonic()
        due = next_deadline(self._state, now, until_empty=self._until_empty)
        due = min(due, *(helper.due for helper in self._wanted if helper.child is None), math.inf)
        due = min(due, now + (self._notifier.watchdog_interval_s or math.inf))
        events: list[Event] = [Signalled(name) for name in self._bell.wait(due - now)]
        events += self._gather()
        now = time.monotonic()
        self._gallery.look()
        self._state, actions = step(self._state, events, self._look(now), now)
        for action in actions:
            self._perform(action)
        for helper in self._wanted:
            helper.ensure(now)
        self._heartbeat.beat()
        logsink.settle()
        self._keep_patience(now)

    @property
    def _wanted(self) -> Sequence[Helper]:
        """Return the helpers that are to be there: none before all pools are prepared, none at the end."""
        begun = self._state.stage is Stage.RUNNING
        begun = begun or any(charge.phase in LISTENING for charge in self._state.charges.values())
        return list(self._helpers.values()) if self._code < 0 and begun else []

    # What happened

    def _gather(self) -> list[Event]:
        """Return what has happened to the children since the last time."""
        events, self._failed = self._failed, []
        for name, child in self._masters.items():
            with contextlib.suppress(OSError):
                if link.PREPARED in os.read(child.control_fd, 4096):
                    events.append(Prepared(name))
        names = {child.pid: name for name, child in self._masters.items()}
        now = time.monotonic()
        for pid, status in reap():
            if os.WIFSTOPPED(status):
                continue
            if pid in names:
                self._bury(names[pid])
                events.append(Gone(names[pid], detail_of(status)))
            elif self._trial is not None and pid == self._trial.process.pid:
                self._trial.process.returncode = os.waitstatus_to_exitcode(status)
            else:
                for helper in self._helpers.values():
                    if helper.child is not None and helper.child.pid == pid:
                        helper.gone(status, now)
        if self._trial is not None and (verdict := self._trial.verdict()) is not None:
            self._trial = None
            events.append(Tried(verdict.words, verdict.code))
        return events

    def _bury(self, name: str) -> None:
        child = self._masters.pop(name)
        self._bell.forget(child.control_fd)
        child.close()
        if popen := self._popens.pop(name, None):
            popen.returncode = 0  # reaped here: it must not do so itself

    def _look(self, now: float) -> dict[str, Sight]:
        """Return what the segments show of the masters that are there now."""
        sights = {}
        for name, segment in self._gallery.pools():
            child = self._masters.get(name)
            cells = segment.pool
            if child is None or cells.view[P.MASTER_PID] != child.pid:
                continue  # what it shows is of a master before
            if name not in self._pulses:
                self._pulses[name] = Pulse(HUNG_S)
                self._pulses[name].begin(now)
            state = cells.view[P.STATE]
            sights[name] = Sight(
                ready=state in (PoolState.RUNNING, PoolState.RELOADING),
                reloading=state == PoolState.RELOADING,
                reloads=cells.view[P.GENERATION] + cells.view[P.RELOADS_FAILED],
                hung=self._pulses[name].late(cells.real[P.HEARTBEAT], now),
                empty=_empty(segment),
            )
        return sights

    # What is done

    def _perform(self, action: Action) -> None:
        match action:
            case Start(name):
                self._start(name)
            case Send(name, word):
                link.send(self._masters[name].control_fd, word)
            case End(name):
                self._masters[name].signal(signal.SIGTERM)
            case Kill(name):
                self._pulses.pop(name, None)
                self._masters[name].signal(signal.SIGKILL)
            case Try():
                self._try()
            case Reexec():
                self._reexec()
            case ReopenLogs():
                logsink.reopen()
            case Tell(what, words):
                self._tell(what, words)
            case Say(level, words):
                getattr(log, level)("%s", words)
            case Leave(code):
                self._code = code

    def _try(self) -> None:
        if self._trial is not None:
            self._trial.end()
            self._trial = None
        begun = trial.begin({"pools": self._pools}, self._reload_s)
        if isinstance(begun, trial.Trial):
            self._trial = begun
        else:
            self._failed.append(Tried(begun.words))

    def _start(self, name: str) -> None:
        try:
            ours, theirs = link.pair()
        except OSError as error:
            self._unstarted(name, error)
            return
        arguments, environment = reexec.command("--pool", name)
        # It takes over its signals as the first thing it does, and hears those then that come before.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, early.SIGNAL_NUMBERS)
        try:
            popen = subprocess.Popen(  # noqa: S603 - our own program, our own arguments
                arguments,
                env={**environment, **link.variable(theirs, os.getpid(), self._port)},
                cwd=take().directory,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs,),
                process_group=0,  # what a terminal sends to all of us, it hears from us
            )
        except (OSError, subprocess.SubprocessError) as error:
            os.close(ours)
            self._unstarted(name, error)
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(theirs)
        self._popens[name], self._masters[name] = popen, Child(popen.pid, ours)
        self._pulses.pop(name, None)
        self._bell.watch(ours)

    def _unstarted(self, name: str, error: Exception) -> None:
        log.error("pool %s: its master cannot be started: %s", name, error)
        self._failed.append(Gone(name, EXITED + os.EX_OSERR))

    def _start_exporter(self) -> Child:
        """Fork the exporter: it opens the segments itself."""
        root = os.getpid()

        def run(control: int) -> None:
            end_with(root)  # the next root needs the port
            setproctitle.setproctitle(f"rsq: exporter {', '.join(self._pools)}")
            logsink.count_in(self._heartbeat.lost, 1)
            gallery = Many(self._places, self._heartbeat, writable=True)
            os._exit(exporter.run(gallery, self._listener, control))

        return fork(run, self._own_fds())

    def _own_fds(self) -> Iterator[int]:
        """Yield the descriptors that no child may keep: a copy of a link's end would hide our death."""
        yield from self._bell.fds
        if self._trial is not None:
            yield from (self._trial.word_fd, self._trial.guard_fd)
        if self._notifier.fileno >= 0:
            yield self._notifier.fileno
        for child in (*self._masters.values(), *(helper.child for helper in self._helpers.values())):
            if child is not None and child.control_fd >= 0:
                yield child.control_fd

    def _embed(self, targets: set[Target], running: Mapping[str, list[int]]) -> None:
        """Start the embedded servers that the pools use, unless they run already."""
        for data, target in {target.data: target for target in targets if target.data is not None}.items():
            name = f"embedded server in {data}"
            if name in running:
                child: Child | None = Child(running[name][0], -1)
            else:
                server = embedded_server(target)
                assert server is not None
                self._servers.append(server)
                child = Child(server.pid, -1)
            self._helpers[name] = Helper(name, partial(self._start_server, data), child)

    def _start_server(self, data: Path) -> Child:
        self._servers.append(embedded.start(data, wait_s=0))
        return Child(self._servers[-1].pid, -1)

    @property
    def _port(self) -> int:
        return 0 if self._listener is None else int(self._listener.getsockname()[1])

    def _tell(self, what: str, words: str) -> None:
        match what:
            case "ready":
                self._notifier.ready(self._state.status)
            case "reloading":
                self._notifier.reloading()
            case "stopping":
                self._notifier.stopping()
            case "status":
                self._notifier.status(words)

    def _keep_patience(self, now: float) -> None:
        """Show that supervision is alive, and that a long start or drain is no hang."""
        self._notifier.watchdog()
        if self._state.stage is not Stage.RUNNING and now >= self._asked_at + _ASK_EVERY_S:
            self._asked_at = now
            self._notifier.extend_timeout(3 * _ASK_EVERY_S)

    def _reexec(self) -> None:
        log.info("the new settings are good: starting again in the same process")
        masters = {}
        for name, child in self._masters.items():
            masters[name] = [child.pid, child.control_fd, self._state.charges[name].phase.name]
        helpers = {
            name: [helper.child.pid, helper.child.control_fd]
            for name, helper in self._helpers.items()
            if helper.child is not None
        }
        fd = -1 if self._listener is None else self._listener.fileno()
        left = RootLegacy(fd, masters, helpers, self._notifier.export())
        self._failed.append(Refused(reexec.again(left, self._bell.hold_back, self._bell.let_go)))

    def _adopt(self, legacy: RootLegacy) -> dict[str, Phase]:
        """Take over the children of the root that this process was before; return the masters' phases."""
        for name, (pid, fd) in legacy.helpers.items():
            child = Child(pid, fd)
            if name == "exporter":
                child.signal(signal.SIGTERM)  # its code is old too; a new one is forked when it has gone
                child.close()
        found = {}
        for name, (pid, fd, phase) in legacy.masters.items():
            self._masters[name] = Child(pid, fd)
            self._bell.watch(fd)
            found[name] = Phase[phase]
        return found


def _empty(segment: Segment) -> tuple[int, tuple[int, ...]] | None:
    """Return what `Sight.empty` is to hold."""
    if not segment.pool.view[P.EMPTY]:
        return None
    done, reads = 0, []
    for number in range(segment.wanted):
        if not segment.used(number):
            return None
        slot = segment.slot(number)
        reads.append(slot.desk.view[D.EMPTY_READS])
        # Looked at last: one that has begun to run something is not empty.
        if not slot.desk.view[D.SETTLED]:
            return None
        done += finished(slot.ledger)
    return done, tuple(reads)
