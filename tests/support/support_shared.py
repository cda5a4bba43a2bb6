"""Processes for tests of shared memory: forked ones that share what the test has mapped.

child()          a forked process that runs a function, with a signal for "I am there"
killed_anywhere  runs a function in one child after another, each killed one step later than the last
until()          waits for something that another process does, with a deadline
"""

from __future__ import annotations

import contextlib
import functools
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

DEADLINE_S = 20.0
STEPS_MAX = 5000
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
    prepare: Callable[[], None], work: Callable[[], object], check: Callable[[], None]
) -> int:
    """Kill `work` after its first step, after its second, ... until it comes to its end.

    A step is one instruction of the interpreter, so every store lies between two of them. Each time
    `prepare` runs before and `check` after it, both in the parent.

    Returns:
        How often it was killed.
    """
    for step in range(STEPS_MAX):
        prepare()
        with child(lambda _, step=step: _die_at(step, work)) as process:  # type: ignore[misc]
            status = process.wait()
        assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL
        check()
        if status == 0:
            return step
    raise AssertionError(f"still at work after {STEPS_MAX} steps")


def _die_at(step: int, work: Callable[[], object]) -> None:
    left = step

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode":
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
        return trace

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
