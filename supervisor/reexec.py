"""A master, or a root, becomes a new one in the same process: same pid, same children, new code.

What must not be lost on the way is named in one environment variable: the descriptors that stay
open and who sits where. Nothing secret is in it, and nothing secret is put into the new arguments.

The new program gets the command line, the environment and the working directory that this one was given.
If it cannot be started, nothing has changed. If it starts and fails before a master or a root has taken over,
it starts itself again (`entry`).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn, TypeVar

from ..ipc import logsink, stdio
from . import given

VARIABLE = "RSQ_INTERNAL_STATE"
ROOT_VARIABLE = "RSQ_INTERNAL_ROOT"
_URL_OPTION = "--redis"
_taken_over: list[bool] = []


@dataclass(frozen=True, slots=True)
class Legacy:
    """What a master leaves to itself.

    Arguments:
        identity: stream, group, instance: of the pool.
        lock_fd: of the pool's lock.
        report: both ends of the children's pipe.
        listener_fd: of the metrics socket, -1 for none.
        workers: slot -> (pid, control descriptor).
        helpers: name -> (pid, control descriptor).
        environment: what the service manager gave us and children must not see.
        link_fd: to the root, -1 without one.
        code: what the trial said that it has imported.
    """

    identity: list[str]
    lock_fd: int
    report: list[int]
    listener_fd: int
    workers: dict[str, list[int]]
    helpers: dict[str, list[int]]
    generation: int
    environment: dict[str, str]
    link_fd: int = -1
    code: str = ""

    @property
    def fds(self) -> list[int]:
        """Return the descriptors that have to stay open."""
        fds = [self.lock_fd, *self.report, self.listener_fd, self.link_fd]
        fds += [fd for _, fd in (*self.workers.values(), *self.helpers.values())]
        return [fd for fd in fds if fd >= 0]


@dataclass(frozen=True, slots=True)
class RootLegacy:
    """What a root leaves to itself.

    Arguments:
        listener_fd: of the metrics socket, -1 for none.
        masters: name of a pool -> (pid, descriptor of the link, phase) of its master.
        helpers: name -> (pid, control descriptor).
        environment: what the service manager gave us and children must not see.
    """

    listener_fd: int
    masters: dict[str, list[Any]]
    helpers: dict[str, list[int]]
    environment: dict[str, str]

    @property
    def fds(self) -> list[int]:
        """Return the descriptors that have to stay open."""
        fds = [self.listener_fd, *(one[1] for one in (*self.masters.values(), *self.helpers.values()))]
        return [fd for fd in fds if fd >= 0]


Left = TypeVar("Left", Legacy, RootLegacy)


def inherited() -> Legacy | None:
    """Return what the master before us, in this process, has left; once."""
    return _inherited(VARIABLE, Legacy)


def inherited_root() -> RootLegacy | None:
    """Return what the root before us, in this process, has left; once."""
    return _inherited(ROOT_VARIABLE, RootLegacy)


def _inherited(variable: str, kind: type[Left]) -> Left | None:
    words = os.environ.pop(variable, None)
    if words is None:
        return None
    left = kind(**json.loads(words))
    for fd in left.fds:
        os.set_inheritable(fd, False)  # or every program that user code starts would keep the pool's lock
    return left


def taken_over() -> None:
    """Note that a master or a root has taken over what was left: from now on an end of it is an end."""
    _taken_over.append(True)


def is_taken_over() -> bool:
    """Tell whether a master or a root has taken over."""
    return bool(_taken_over)


def again(left: Legacy | RootLegacy, hold_back: Callable[[], None], let_go: Callable[[], None]) -> str:
    """Replace this process's program by a fresh start of it. Returns only if that fails: why.

    Arguments:
        left: what to leave to it.
        hold_back: keeps signals until it is ready for them: the default action would end it.
        let_go: takes that back.
    """
    variable = VARIABLE if isinstance(left, Legacy) else ROOT_VARIABLE
    state = {**left.environment, variable: json.dumps(asdict(left))}
    stdio.flush()
    logsink.settle(logsink.LAST_WORDS_S)
    hold_back()
    try:
        _exec(state, left.fds)
    except (OSError, ValueError, MemoryError) as error:
        for fd in left.fds:
            os.set_inheritable(fd, False)
        let_go()
        return f"the new program cannot be started: {error or type(error).__name__}"


def once_more() -> None:
    """Start the program again, which could not take over what it was left; returns if that fails too."""
    taken = given.take()
    fds = []
    for variable, kind in ((VARIABLE, Legacy), (ROOT_VARIABLE, RootLegacy)):
        if words := taken.internal.get(variable):
            fds += kind(**json.loads(words)).fds
    with contextlib.suppress(OSError, ValueError, MemoryError):
        _exec(taken.internal, fds)


def _exec(internal: Mapping[str, str], fds: Iterable[int]) -> NoReturn:
    """Start the program anew in this process.

    Arguments:
        internal: variables of its environment, beside those that this one was given.
        fds: descriptors that stay open.

    Raises:
        OSError: it cannot be; the working directory is what it was.
    """
    arguments, environment = command()
    before = None
    with contextlib.suppress(OSError):  # it may have been removed
        before = os.getcwd()  # noqa: PTH109 - it is not looked at as a path
    try:
        os.chdir(given.take().directory)
        for fd in fds:
            os.set_inheritable(fd, True)
        os.execve(arguments[0], arguments, {**environment, **internal})  # noqa: S606 - our own program
    finally:
        if before is not None:
            with contextlib.suppress(OSError):
                os.chdir(before)


def command(*more: str) -> tuple[list[str], dict[str, str]]:
    """Return arguments and environment that start this program again; the URL goes into the environment.

    They are to be used in the directory that the program was given.
    """
    taken = given.take()
    environment: dict[str, str] = dict(taken.environment)
    arguments = [taken.program]
    rest = iter(taken.words)
    for word in rest:
        if word == _URL_OPTION:
            environment["RSQ_REDIS"] = next(rest, "")
        elif word.startswith(f"{_URL_OPTION}="):
            environment["RSQ_REDIS"] = word.partition("=")[2]
        else:
            arguments.append(word)
            continue
        environment.pop("RSQ_REDIS_FILE", None)  # an argument had more weight; between equals it would not
    return [*arguments, *more], environment
