"""The master becomes a new master in the same process: same pid, same children, new code.

What must not be lost on the way is named in one environment variable: the descriptors that stay
open and who sits where. Nothing secret is in it, and nothing secret is put into the new arguments.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

VARIABLE = "RSQ_INTERNAL_STATE"
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
    """

    identity: list[str]
    lock_fd: int
    report: list[int]
    listener_fd: int
    workers: dict[str, list[int]]
    helpers: dict[str, list[int]]
    generation: int
    environment: dict[str, str]

    @property
    def fds(self) -> list[int]:
        """Return the descriptors that have to stay open."""
        fds = [self.lock_fd, *self.report, self.listener_fd]
        fds += [fd for _, fd in (*self.workers.values(), *self.helpers.values())]
        return [fd for fd in fds if fd >= 0]


def inherited() -> Legacy | None:
    """Return what the master before us, in this process, has left; once."""
    words = os.environ.pop(VARIABLE, None)
    if words is None:
        return None
    legacy = Legacy(**json.loads(words))
    for fd in legacy.fds:
        os.set_inheritable(fd, False)  # or every program that user code starts would keep the pool's lock
    return legacy


def again(legacy: Legacy, hold_back: Callable[[], None]) -> None:
    """Replace this process's program by a fresh start of it. Does not return.

    Arguments:
        legacy: what to leave to it.
        hold_back: keeps signals until it is ready for them: the default action would end it.
    """
    hold_back()
    for fd in legacy.fds:
        os.set_inheritable(fd, True)
    arguments, environment = command()
    environment = {**environment, **legacy.environment, VARIABLE: json.dumps(asdict(legacy))}
    sys.stdout.flush()
    sys.stderr.flush()
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


def same_pool(environment: Mapping[str, str]) -> list[str] | None:
    """Return the identity that a trial has to have, None when this is no trial."""
    words = environment.get(f"{VARIABLE}_TRIAL")
    return None if words is None else list(json.loads(words))
