"""Threads that the import of a handler has started: whose they are, and whether a fork does them harm.

A fork copies the locks of a thread and not the thread, so that a master must have none. Some libraries know:
OpenBLAS, which numpy and scipy bring along, ends its threads before each fork (`pthread_atfork`), and starts
new ones when they are needed. Whether a library does so is not looked up in a list but tried: after a fork,
its threads are gone or they are still there.

What is still there is told by the module whose import started it. A thread of Python is noted when it starts.
Threads of C libraries have no such moment: they are counted whenever something is imported, and belong to
what was imported last.
"""

from __future__ import annotations

import contextlib
import os
import select  # noqa: F401 - looked at in `sys.modules`
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FrameType, ModuleType, TracebackType
from typing import Any, Self

import psutil

_TASKS = "/proc/self/task"
_OURS = ("threading", "concurrent.futures", "multiprocessing", "asyncio", f"{__name__}")
# What supervision and the worker's loop are made of: patched, it would wait for a loop that nobody runs.
_PATCHED = {"select": "poll", "os": "fork", "time": "sleep"}
_FORK_S = 5.0
_GONE_S = 0.5  # a thread that was waited for can be seen for a moment


class ThreadsRunning(Exception):
    """Forking now would break what the import of the handler has started."""


def threads() -> set[int]:
    """Return the system's numbers of the threads of this process."""
    try:
        return set(map(int, os.listdir(_TASKS)))  # noqa: PTH208 - before each import: fast
    except OSError:
        return {thread.id for thread in psutil.Process().threads()}


class Watch(MetaPathFinder):
    """Notes which module's import starts threads, while it is entered as a context. Finds nothing itself."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self.started: dict[threading.Thread, str] = {}  # thread -> module
        self.came: dict[int, str] = {}  # thread of a C library -> what was imported last
        self._last, self._seen = "", set[int]()
        self._start: Any = None
        self._ours: Any = None
        self._watches = False

    def __enter__(self) -> Self:
        self._seen, self._start, self._watches = threads(), threading.Thread.start, True

        def start(thread: threading.Thread) -> None:
            watches = self._watches
            if watches:
                self.started[thread] = _module_of(sys._getframe(1))
            self._start(thread)
            if watches:
                self._seen.add(thread.native_id or 0)

        threading.Thread.start = self._ours = start  # type: ignore[method-assign,assignment]
        sys.meta_path.insert(0, self)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._look("")
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        self._watches = False
        if threading.Thread.start is self._ours:  # else a library has replaced it, and calls ours
            threading.Thread.start = self._start  # type: ignore[method-assign]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Look at the threads that the import before this one has started."""
        self._look(f"{fullname}{_importer(fullname, sys._getframe(1))}")
        return None

    def _look(self, name: str) -> None:
        now = threads()
        for thread in now - self._seen:
            self.came[thread] = self._last
        self._last, self._seen = name, now


def refuse(watch: Watch) -> None:
    """Make sure that this process can be forked.

    Arguments:
        watch: what was seen during the import.

    Raises:
        ThreadsRunning: it cannot; the text says which module is to blame, and what helps.
    """
    if patcher := patched():
        raise ThreadsRunning(
            f"importing the handler lets {patcher} replace functions of Python that the pool needs: use"
            " --no-preload"
        )
    if len(threads()) > 1 and _stay_after_a_fork():
        raise ThreadsRunning(
            f"importing the handler started threads that a fork would break: {_names(watch)};"
            " start them in a worker_start hook, or use --no-preload"
        )


def _stay_after_a_fork() -> bool:
    """Fork, and tell whether there are still threads here: those of libraries that do not care."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's own, about threads
        pid = os.fork()
    if not pid:
        os._exit(0)
    deadline = time.monotonic() + _FORK_S
    while not os.waitpid(pid, os.WNOHANG)[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
    deadline = time.monotonic() + _GONE_S
    while len(threads()) > 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    return len(threads()) > 1


def _names(watch: Watch) -> str:
    """Return whose threads there are: module and name of each that is known."""
    known = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    words = [f"{watch.started.get(thread) or 'unknown'} (thread {thread.name})" for thread in known]
    ours = {thread.native_id for thread in threading.enumerate()}
    homes: dict[str, list[int]] = {}
    for thread in sorted(threads() - ours):
        homes.setdefault(watch.came.get(thread) or "a C library", []).append(thread)
    for module, numbers in homes.items():
        words.append(
            f"{module}, or what ran after its import ({len(numbers)} of a C library{_called(numbers)})"
        )
    return ", ".join(words)


def _called(numbers: Sequence[int]) -> str:
    """Return the names that a C library has given to its threads, if it has."""
    names = set()
    for number in (os.getpid(), *numbers):
        with contextlib.suppress(OSError):
            names.add(Path(_TASKS, str(number), "comm").read_text().strip())
    with contextlib.suppress(OSError):  # without one of its own a thread has the name of whoever started it
        names.discard(Path(_TASKS, str(os.getpid()), "comm").read_text().strip())
    return f": {', '.join(sorted(names))}" if names else ""


def _importer(name: str, frame: FrameType | None) -> str:
    """Return words on the module of another package that imports one, empty where none is known."""
    top = name.partition(".")[0]
    while frame is not None:
        above = str(frame.f_globals.get("__name__", ""))
        if frame.f_code.co_name == "<module>" and above.partition(".")[0] != top:
            return "" if above == "__main__" else f" (imported by {above})"
        frame = frame.f_back
    return ""


def _module_of(frame: FrameType | None) -> str:
    """Return the module that starts a thread: the first one on the way up that is not Python's own."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name and not any(name == own or name.startswith(f"{own}.") for own in _OURS):
            return name
        frame = frame.f_back
    return ""


def patched() -> str:
    """Return which library has replaced functions that we need, empty when none has."""
    for home, name in _PATCHED.items():
        found = getattr(sys.modules[home], name, None)
        top = str(getattr(found, "__module__", None) or "").partition(".")[0]
        if found is None:  # what eventlet cannot replace it takes away
            return "eventlet" if "eventlet" in sys.modules else "a module"
        if top and top not in (home, "posix"):
            return top
    return ""
