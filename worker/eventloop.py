"""The event loop of async handlers: one per worker, which runs only while a handler or a hook does.

A handler has ended when it returns. Tasks that it leaves are not part of its entry: they go on only while
other handlers run, and are cancelled with the process. That is told, because it is rarely meant.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any
from weakref import WeakSet

from .verdict import SoftTimeout

log = logging.getLogger(__name__)
_TELL_EVERY_S = 60.0
_NAMES_MAX = 3


class EventLoop:
    """Runs awaitables to their end, one at a time."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self._runner: asyncio.Runner | None = None
        self._seen: WeakSet[asyncio.Task[Any]] = WeakSet()
        self._left: WeakSet[asyncio.Task[Any]] = WeakSet()  # of handlers
        self._told_at, self._untold = -_TELL_EVERY_S, 0

    def run(self, work: Awaitable[Any], message: Any = None) -> Any:
        """Return what an awaitable returns.

        Arguments:
            work: of a handler, or of a hook.
            message: what the handler got, a message or several; None for a hook.
        """
        if self._runner is None:
            self._runner = asyncio.Runner()

        async def wrapped() -> Any:
            return await work

        try:
            return self._runner.run(wrapped())
        finally:
            if tasks := asyncio.all_tasks(self._runner.get_loop()):
                self._note(tasks, message)

    def close(self) -> None:
        """Cancel what is left, and close the loop; the next call opens another."""
        if self._runner is None:
            return
        if left := [task for task in self._left if not task.done()]:
            log.warning("tasks that handlers had left behind are cancelled: %d (%s)", len(left), _names(left))
        self._runner.close()
        self._runner = None

    def _note(self, tasks: Iterable[asyncio.Task[Any]], message: Any) -> None:
        new = [task for task in tasks if task not in self._seen]
        self._seen.update(new)
        if message is None or not new:
            return
        self._left.update(new)
        self._untold += len(new)
        if time.monotonic() < self._told_at + _TELL_EVERY_S:
            return
        one = message[0] if isinstance(message, list) else message
        log.warning(
            "entry %s: its handler has returned and left tasks behind: %d (%s), %d since this was last told."
            " They go on only while other handlers run, and are cancelled with the process: await them",
            getattr(one, "id", "?"), len(new), _names(new), self._untold,
        )  # fmt: skip
        self._told_at, self._untold = time.monotonic(), 0


def _names(tasks: Iterable[asyncio.Task[Any]]) -> str:
    names = [getattr(task.get_coro(), "__qualname__", None) or task.get_name() for task in tasks]
    return ", ".join(names[:_NAMES_MAX]) + (", ..." if len(names) > _NAMES_MAX else "")


class _SoftCancel(SoftTimeout, asyncio.CancelledError):
    """What is raised in the handler: code that tidies up when it is cancelled must do so for this too."""


def limited(
    function: Callable[[Any], Coroutine[Any, Any, Any]], limit_s: float
) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    """Return a function in which `SoftTimeout` is raised, where it waits, when it has run for too long.

    Like the timer of other handlers it comes again, after as long, if the function goes on all the same.

    Arguments:
        function: async, of one argument.
        limit_s: seconds.
    """

    async def run(argument: Any) -> Any:
        try:
            return await _Limited(function(argument), limit_s)
        except _SoftCancel as error:
            raise SoftTimeout(*error.args).with_traceback(error.__traceback__) from None
        except BaseExceptionGroup as group:  # of the body of a task group
            if group.split(_SoftCancel)[1] is None:
                raise SoftTimeout(f"ran longer than {limit_s:g} s") from group
            raise

    return run


class _Limited:
    """Awaits a coroutine. A cancellation that the limit has caused arrives there as `SoftTimeout`."""

    def __init__(self, work: Coroutine[Any, Any, Any], limit_s: float) -> None:
        self._work, self._limit_s, self._is_over = work, limit_s, False

    def __await__(self) -> Generator[Any, None, Any]:
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def end() -> None:
            # What the handler waits for has to be cancelled too, and that is done by cancelling the task.
            self._is_over = True
            task.cancel()
            timers[:] = [loop.call_later(self._limit_s, end)]

        timers = [loop.call_later(self._limit_s, end)]
        error: BaseException | None = None
        try:
            while True:
                waits_for = self._work.send(None) if error is None else self._work.throw(error)
                error = None
                try:
                    yield waits_for
                except BaseException as raised:
                    error = raised
                if self._is_over and (error is None or isinstance(error, asyncio.CancelledError)):
                    self._is_over = False
                    task.uncancel()
                    error = _SoftCancel(f"ran longer than {self._limit_s:g} s")
        except StopIteration as returned:
            return returned.value
        finally:
            timers[0].cancel()
            self._work.close()
