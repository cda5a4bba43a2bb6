"""A master, or a root, becomes a new one in the same process: same pid, same children, new code.

What must not be lost on the way is named in one environment variable: the descriptors that stay
open and who sits where. Nothing secret is in it, and nothing secret is put into the new arguments.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from ..ipc import logsink, stdio

VARIABLE = "RSQ_INTERNAL_STATE"
ROOT_VARIABLE = "RSQ_INTERNAL_ROOT"
_URL_OPTION = "--redis"


@dataclass(frozen=True, slots=True)
class Legacy:
    """What a master leaves to itself.

    Arguments:
        identity: stream, group, instance: another one is not the same pool.
        lock_fd: of the pool's lock.
        report: both ends of the children's pipe.
        listener_fd: of the metrics socket, -1 for none.
        workers: slot -> (pid, control descriptor).
        helpers: name -> (pid, control descriptor).
        environment: what the service manager gave us and children must not see.
        link_fd: to the root, -1 without one.
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


def again(left: Legacy | RootLegacy, hold_back: Callable[[], None]) -> None:
    """Replace this process's program by a fresh start of it. Does not return.

    Arguments:
        left: what to leave to it.
        hold_back: keeps signals until it is ready for them: the default action would end it.
    """
    hold_back()
    variable = VARIABLE if isinstance(left, Legacy) else ROOT_VARIABLE
    for fd in left.fds:
        os.set_inheritable(fd, True)
    arguments, environment = command()
    environment = {**environment, **left.environment, variable: json.dumps(asdict(left))}
    stdio.flush()
    logsink.settle(logsink.LAST_WORDS_S)
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - our own program, our own arguments


def command(*more: str) -> tuple[list[str], dict[str, str]]:
    """Return arguments and environment that start this program again; the URL goes into the environment."""
    environment: dict[str, str] = dict(os.environ)
    arguments = [sys.executable]
    rest = iter(sys.orig_argv[1:])
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


def same_root(environment: Mapping[str, str]) -> dict[str, str] | None:
    """Return the instance of each pool that a root has, None when this is no trial of new settings by one."""
    words = environment.get(f"{ROOT_VARIABLE}_TRIAL")
    return None if words is None else dict(json.loads(words))


def same_pool(environment: Mapping[str, str]) -> list[str] | None:
    """Return the identity that a trial has to have, None when this is no trial."""
    words = environment.get(f"{VARIABLE}_TRIAL")
    return None if words is None else list(json.loads(words))
