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
from dataclasses import dataclass

import setproctitle

from ..ipc import exitcodes, logsink, stdio
from ..ipc.cells import D, Desk, DeskState, Outside
from ..ipc.fence import Fence
from ..ipc.nudge import Nudge
from ..ipc.segment import Segment
from ..ipc.slot import Slot
from ..ipc.soundness import Unsound, check
from ..streams.serializers import load as load_serializer
from ..streams.wire import DescriptorsClosed
from . import ending
from .consumer import Consumer
from .controls import Controls
from .fuse import fuses
from .guard import Guard
from .handler import Handler
from .handler import load as load_handler
from .letters import addressed
from .quota import Quota
from .router import Route
from .session import Misconfigured
from .siblings import SegmentSiblings
from .signature import HandlerError
from .spec import Spec
from .ways import Ways

log = logging.getLogger(__name__)
_PR_SET_PDEATHSIG = 1
RECOVER_S = 5.0  # to reach Redis and put a slot in order; then its memory keeps what it tells of


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
        retire: only recover what the slot holds and hand it back; run no user code but the import.
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


def main(birth: Birth, control_fd: int) -> int:
    """Live as the worker of a slot.

    Arguments:
        birth: from the master.
        control_fd: reading end of the pipe from the master.

    Returns:
        The exit code; the caller ends the process with it.
    """
    source = birth.spec.source
    name = f"{source.instance}:{birth.slot} {source.stream}/{source.group}"
    controls = Controls(control_fd, f"rsq: child of {name}", deaf=birth.retire)
    _die_with(birth.parent, controls)
    random.seed()
    ending.disown()
    setproctitle.setproctitle(f"rsq: worker {name}")
    holder = birth.segment.lock_slot(birth.slot)
    if holder is not None:
        log.error("slot %d is still held by process %d", birth.slot, holder)
        return exitcodes.NEVER_BOOTED
    slot = _sound(birth)
    _sit_down(slot.desk)
    try:
        if birth.retire:
            _recover(birth, slot, controls)
        else:
            return _work(birth, slot, controls)
    except Unsound as error:  # found where it was gone on with: a fresh process begins anew
        log.exception("slot %d: recovery cannot go on with what lies in shared memory", birth.slot)
        birth.segment.set_aside(birth.slot, str(error))
        return exitcodes.NEVER_BOOTED
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
        _leave(slot.desk)
    return exitcodes.OK


def _sound(birth: Birth) -> Slot:
    """Return the slot, begun anew if its memory makes no sense."""
    try:
        check(slot := birth.segment.slot(birth.slot))
    except Unsound as error:
        birth.segment.set_aside(birth.slot, str(error))
        slot = birth.segment.slot(birth.slot)
    return slot


def _work(birth: Birth, slot: Slot, controls: Controls) -> int:
    """Recover, work until told to drain or the share of this process is done, drain; return the exit code."""
    handler = _load(birth)
    try:
        _enter(slot.desk, Outside.START)
        handler.start()
        if controls.is_intruder:
            os._exit(0)
        _enter(slot.desk, Outside.NONE)
        recycled = _handle(birth, slot, handler, controls)
        _enter(slot.desk, Outside.STOP)
        handler.run_stops()
    finally:
        if controls.is_intruder:
            os._exit(exitcodes.NEVER_BOOTED)
        _enter(slot.desk, Outside.END)
        ending.end(handler, alone=os.getppid() != birth.parent)
    return exitcodes.RECYCLED if recycled else exitcodes.OK


def _handle(birth: Birth, slot: Slot, handler: Handler, controls: Controls) -> bool:
    """Be the consumer of the slot; return whether this process has done its share."""
    quota = Quota(birth.spec.max_messages, birth.spec.max_growth, controls.stopping)
    consumer, guard = _consumer(birth, slot, handler, controls, quota)
    if consumer.boot(first=birth.first):
        _note_boot(birth, slot)
        quota.begin()
        consumer.run()
        if controls.is_intruder:
            os._exit(0)
        if quota.reason:
            log.info("slot %d: recycled, %s", birth.slot, quota.reason)
        consumer.drain()
        if guard is not None:
            guard.close()
    _leave(slot.desk)  # nobody is to hand entries to a process that ends
    return bool(quota.reason)


def _recover(birth: Birth, slot: Slot, controls: Controls) -> None:
    """Recover what the predecessor left and hand back what is unfinished, within a time limit.

    An order to drain says nothing new here, and neither does the end of the master: nobody else would do it.
    """
    try:
        handler = _load(birth)
    except HandlerError as error:
        words = "slot %d is recovered by the limits of the pool, its events may have others: %s"
        log.error(words, birth.slot, error)
        handler = Handler(birth.spec.work.handler, (Route((), _nobody),))
    _enter(slot.desk, Outside.NONE)
    consumer, guard = _consumer(birth, slot, handler, controls)
    controls.use_alarm(lambda _number, _frame: controls.stopping.append("time is up"))
    signal.setitimer(signal.ITIMER_REAL, RECOVER_S)
    if consumer.boot(first=False):
        _note_boot(birth, slot)
        signal.setitimer(signal.ITIMER_REAL, 0)
        consumer.drain()
    if guard is not None:
        guard.close()


def _nobody(_message: object) -> None:
    """Stand for a handler that cannot be imported, and is not called."""


def _load(birth: Birth) -> Handler:
    """Return the handler, imported here if the master has not done so.

    Raises:
        HandlerError: it cannot be imported.
    """
    work = birth.spec.work
    handler = birth.handler or load_handler(work.handler)
    stdio.open_missing()
    return addressed(handler, work.letters_of) if work.letters_of else handler


def _consumer(
    birth: Birth, slot: Slot, handler: Handler, controls: Controls, quota: Quota | None = None
) -> tuple[Consumer, Guard | None]:
    """Return the loop of the slot, and what minds the circuit breakers of its events."""
    work = birth.spec.work
    serializer = load_serializer(work.serializer, allow_pickle=work.allow_pickle)
    nudge, found = Nudge(birth.segment.keep), fuses(handler.routes, birth.spec.timeout_s)
    guard = Guard(found, slot, nudge) if found else None
    if guard is None and slot.strain.registered and not birth.retire:
        slot.strain.register(())  # other code had some
    ways = Ways(handler, birth.spec, slot.desk.view, guard)
    if quota is not None:
        ways.limit(quota)
    siblings, fence = SegmentSiblings(birth.segment, birth.slot), Fence(birth.segment.keep)
    return Consumer(birth.spec, birth.slot, slot, ways, serializer, controls, siblings, fence, nudge), guard


def _note_boot(birth: Birth, slot: Slot) -> None:
    """Tell the master that what the predecessor left is in order."""
    slot.desk.real[D.BOOTED] = time.monotonic()
    with contextlib.suppress(OSError):  # the master may be gone; then there is a drain to do
        os.write(birth.report_fd, b"b")


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
    _enter(desk, Outside.IMPORT)
    desk.view[D.MARKS] = desk.view[D.PID] = os.getpid()


def _enter(desk: Desk, what: Outside) -> None:
    """Note that code of the user's begins which is no handler, or that none runs any more."""
    desk.real[D.OUTSIDE_AT] = time.monotonic()
    desk.view[D.OUTSIDE] = what


def _leave(desk: Desk) -> None:
    desk.view[D.STATE], desk.real[D.BOOTED], desk.view[D.CONNECTED] = DeskState.NONE, 0.0, 0
    desk.view[D.SETTLED] = 0


def _die_with(parent: int, controls: Controls) -> None:
    """Be told to drain when the master dies, even in the middle of a batch (Linux; elsewhere at its end)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        controls.orphan()
