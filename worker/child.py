"""The first page after the fork, and the last: a worker's life as a checklist."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import setproctitle

from ..ipc import exitcodes, logsink, stdio
from ..ipc.cells import D, Desk, DeskState, P
from ..ipc.fence import Fence
from ..ipc.nudge import Nudge
from ..ipc.segment import LANE, Segment
from ..streams.serializers import load as load_serializer
from ..streams.wire import DescriptorsClosed
from .consumer import Consumer
from .controls import Controls
from .fuse import fuses
from .guard import Guard
from .handler import Handler
from .handler import load as load_handler
from .letters import addressed
from .session import Misconfigured
from .signature import HandlerError
from .spec import Spec
from .ways import Ways

log = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Birth:
    """What the master gives a worker on its way.

    Arguments:
        spec: what to do.
        slot: where to sit.
        segment: inherited, mapped.
        handler: imported already; None to import it here.
        report_fd: one byte written here wakes the master.
        first: nobody in this pool has booted yet: a refusal by Redis is a wrong configuration.
        retire: only put in order what the slot holds, then end.
        parent: pid of the master.
    """

    spec: Spec
    slot: int
    segment: Segment
    handler: Handler | None
    report_fd: int
    first: bool
    retire: bool
    parent: int


class _Siblings:
    """The other slots, by their locks in the segment."""

    def __init__(self, segment: Segment, own: int) -> None:
        self._segment, self._own = segment, own
        self._desks: dict[int, memoryview[int]] = {}

    @property
    def wanted(self) -> int:
        return self._segment.pool.view[P.WORKERS]

    def any_idle(self) -> bool:
        for number in range(self.wanted):
            if number not in self._desks and self._segment.used(number):
                self._desks[number] = self._segment.slot(number).desk.view
            desk = self._desks.get(number)
            if desk is not None and number != self._own and desk[D.STATE] == DeskState.IDLE:
                return True
        return False

    def lock_closed(self, slot: int) -> bool:
        if slot >= self._segment.capacity:
            return True
        if self._segment.lock_slot(slot) is not None:
            return False
        if self._segment.used(slot) and self._segment.slot(slot).desk.view[D.HOLDS]:
            self.unlock(slot)  # it died with entries in hand: its own successor puts them in order
            return False
        return True

    def lock_lane(self) -> bool:
        return self._segment.lock_slot(LANE) is None

    def unlock_lane(self) -> None:
        self._segment.unlock_slot(LANE)

    def waiting(self, slot: int) -> Mapping[bytes, tuple[int, float]]:
        return self._segment.slot(slot).waiting.load() if self._segment.used(slot) else {}

    def unlock(self, slot: int) -> None:
        if slot < self._segment.capacity:
            self._segment.unlock_slot(slot)


def main(birth: Birth, control_fd: int) -> int:
    """Live as the worker of a slot.

    Arguments:
        birth: from the master.
        control_fd: reading end of the pipe from the master.

    Returns:
        The exit code; the caller ends the process with it.
    """
    source = birth.spec.source
    controls = Controls(control_fd)
    _die_with(birth.parent, controls)
    random.seed()
    setproctitle.setproctitle(f"rsq: worker {source.instance}:{birth.slot} {source.stream}/{source.group}")
    holder = birth.segment.lock_slot(birth.slot)
    if holder is not None:
        log.error("slot %d is still held by process %d", birth.slot, holder)
        return exitcodes.NEVER_BOOTED
    slot = birth.segment.slot(birth.slot)
    desk = slot.desk
    _sit_down(desk)
    try:
        work = birth.spec.work
        handler = birth.handler or load_handler(work.handler)
        stdio.open_missing()
        if work.letters_of:
            handler = addressed(handler, work.letters_of)
        serializer = load_serializer(work.serializer, allow_pickle=work.allow_pickle)
        nudge, found = Nudge(birth.segment.keep), fuses(handler.routes, birth.spec.timeout_s)
        guard = Guard(found, slot, nudge) if found else None
        if guard is None and slot.strain.registered:
            slot.strain.register(())  # other code had some
        ways = Ways(handler, birth.spec, desk.view, guard)
        handler.start()
        if controls.is_intruder:
            os._exit(0)
        consumer = Consumer(
            birth.spec, birth.slot, slot, ways, serializer, controls, _Siblings(birth.segment, birth.slot),
            Fence(birth.segment.keep), nudge,
        )  # fmt: skip
        if consumer.boot(first=birth.first):
            desk.real[D.BOOTED] = time.monotonic()
            with contextlib.suppress(OSError):  # the master may be gone; then there is a drain to do
                os.write(birth.report_fd, b"b")
            if not birth.retire:
                consumer.run()
            if controls.is_intruder:
                os._exit(0)
            consumer.drain()
            if guard is not None:
                guard.close()
        handler.stop()
    except (HandlerError, Misconfigured) as error:
        log.error("%s", error)
        return exitcodes.CONFIG
    except DescriptorsClosed:
        log.error(
            "slot %d: user code closed file descriptors that are not its own (os.closerange?);"
            " starting a new process, nothing is lost",
            birth.slot,
        )
        return exitcodes.NEVER_BOOTED
    finally:
        _leave(desk)
    return exitcodes.OK


def run(birth: Birth, control_fd: int) -> None:
    """End this process with what `main` returns, whatever happens; nothing of the master's runs after it."""
    code = exitcodes.NEVER_BOOTED
    try:
        code = main(birth, control_fd)
    except BaseException:
        log.exception("slot %d: worker process ends", birth.slot)
    finally:
        stdio.flush(logsink.LAST_WORDS_S)
        logsink.settle(logsink.LAST_WORDS_S)
        os._exit(code)


def _sit_down(desk: Desk) -> None:
    """Clear what the predecessor left before our pid is there: with it, all of that is taken for ours.

    A `BOOTED` of its own beside our pid would tell the master that we have recovered already, and it would
    forget why the predecessor died before we have read it.
    """
    desk.view[D.STATE], desk.real[D.BOOTED] = DeskState.BOOTING, 0.0
    desk.view[D.HELD] = desk.view[D.WAITING] = desk.view[D.SETTLED] = desk.view[D.WAKES] = 0
    desk.view[D.LIMIT] = desk.view[D.DEFERRED] = 0
    desk.view[D.PID] = os.getpid()


def _leave(desk: Desk) -> None:
    desk.view[D.STATE], desk.real[D.BOOTED], desk.view[D.CONNECTED] = DeskState.NONE, 0.0, 0
    desk.view[D.SETTLED] = 0


def _die_with(parent: int, controls: Controls) -> None:
    """Be told to drain when the master dies, even in the middle of a batch (Linux; elsewhere at its end)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        controls.stopping.append("the master is gone")
