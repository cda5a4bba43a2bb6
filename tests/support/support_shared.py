"""Processes for tests of shared memory: forked ones that share what the test has mapped.

child()          a forked process that runs a function, with a signal for "I am there"
killed_anywhere  runs a function in one child after another, each killed one change of the memory later
until()          waits for something that another process does, with a deadline
"""

from __future__ import annotations

import array
import contextlib
import functools
import gc
import itertools
import mmap
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn, TypeVar

DEADLINE_S = 60.0
T = TypeVar("T")


class Child:
    """A forked process, as its test sees it."""

    def __init__(self, pid: int, there: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self._there = there

    def ready(self) -> None:
        """Wait until the child has called `there`."""
        readable, _, _ = select.select([self._there], [], [], DEADLINE_S)
        assert readable, "the child does not get there"
        assert os.read(self._there, 1), "the child ended before it got there"

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Signal it, wait for its end and return its wait status."""
        os.kill(self.pid, number)
        os.kill(self.pid, signal.SIGCONT)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end and return its wait status."""
        if self.status is None:
            self.status = until(self._ended, "the child's end")
        return self.status

    def close(self) -> None:
        """Leave nothing behind."""
        if self.status is None:
            self.kill()
        os.close(self._there)

    def _ended(self) -> int | None:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return status if pid else None


@contextlib.contextmanager
def child(work: Callable[[Callable[[], object]], object]) -> Iterator[Child]:
    """Run `work(there)` in a forked process, which ends with code 0, or 1 when it raises.

    Arguments:
        work: is given a function that tells the parent's `ready` that it has got there.
    """
    readable, writable = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(readable)
            work(functools.partial(os.write, writable, b"."))
            code = 0
        except BaseException:  # the child must never run the rest of the tests
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writable)
    forked = Child(pid, readable)
    try:
        yield forked
    finally:
        forked.close()


def stay() -> NoReturn:
    """Stay until killed."""
    while True:
        signal.pause()


def killed_anywhere(
    raw: memoryview, prepare: Callable[[], None], work: Callable[[], object], check: Callable[[], None]
) -> int:
    """Kill `work` before its first step, then after each step that changed the memory; then let it end.

    A step is one instruction of the interpreter, so every store lies between two of them. Whoever comes after
    a killed process sees the memory alone: steps that leave it as it was are one and the same place to die.
    Each time `prepare` runs before and `check` after it, both in the parent.

    Arguments:
        raw: all that `work` and `check` share.
        prepare: makes the memory ready for `work`.
        work: takes the same steps each time.
        check: looks at what a killed one left.

    Returns:
        How often it was killed.
    """
    prepare()
    places = _changes(raw, work)
    for place in places:
        prepare()
        with child(lambda _, place=place: _die_at(place, work)) as process:  # type: ignore[misc]
            assert os.WTERMSIG(process.wait()) == signal.SIGKILL, f"it has no step {place} this time"
        check()
    prepare()
    with child(lambda _: work()) as process:
        assert process.wait() == 0
    check()
    return len(places)


def _changes(raw: memoryview, work: Callable[[], object]) -> list[int]:
    """Return the steps of `work` before which the memory is another than before the last one."""
    readable, writable = os.pipe()

    def look(_: object) -> None:
        before, places = b"", list[int]()

        def note(step: int) -> None:
            nonlocal before
            if (now := bytes(raw)) != before:
                before = now
                places.append(step)

        _traced(work, note)
        os.write(writable, array.array("i", places).tobytes())

    with child(look) as process:
        assert process.wait() == 0
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        return array.array("i", pipe.read()).tolist()


def _die_at(place: int, work: Callable[[], object]) -> None:
    def note(step: int) -> None:
        if step == place:
            os.kill(os.getpid(), signal.SIGKILL)

    _traced(work, note)


def _traced(work: Callable[[], object], note: Callable[[int], None]) -> None:
    """Run `work`; before its step N call `note(N)`.

    Nothing collects garbage meanwhile: finalizers of what other tests have left would be steps, too.
    """
    gc.disable()
    steps = itertools.count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode":
            note(next(steps))
        return trace

    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for it when tracing begins
    sys.settrace(trace)
    work()
    sys.settrace(None)


def shared(size: int) -> memoryview:
    """Return zeroed memory that forked processes share; it goes with its last view."""
    return memoryview(mmap.mmap(-1, size))


def until(look: Callable[[], T | None], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Return what `look` finds, as soon as that is not None."""
    deadline = time.monotonic() + deadline_s
    pause = 0.0005
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"waited {deadline_s} s for {what}"
        time.sleep(pause)  # the only one: other processes' memory gives no event
        pause = min(pause * 2, 0.02)
    return found
