"""A trial's own side: its guard, what must not change, and the word that all is well.

What the master wants to stay the same comes in one variable of the environment:

    word, guard     descriptors: where to say that all is well; whose end tells that the master is gone
    pool            of a master: [stream, group, instance, server, runtime directory] of its pool
    pools           of a root: name -> [instance, server, runtime directory] of each pool
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from typing import Any

_VARIABLE = "RSQ_INTERNAL_TRIAL"
_NAMES = ("stream", "group", "instance", "server", "runtime directory")
_trial: dict[str, Any] = {}


def begin() -> None:
    """Take the variable out of the environment, and start the guard. Before any user code."""
    told = json.loads(os.environ.pop(_VARIABLE))
    for name in ("word", "guard"):
        os.set_inheritable(told[name], False)
    _trial.update(told, pid=os.getpid())
    _start_guard(told["guard"])
    os.close(told["guard"])


def is_trial() -> bool:
    """Tell whether this process is a trial."""
    return bool(_trial)


def is_of_root() -> bool:
    """Tell whether a root tries new settings: the code is tried by its masters."""
    return "pools" in _trial


def refuse_other_pool(mine: list[str]) -> None:
    """Check that this is the pool that it has to be.

    Arguments:
        mine: stream, group, instance, server, runtime directory.

    Raises:
        ValueError: it is another; one line says what changed.
    """
    for name, before, now in zip(_NAMES, _trial.get("pool", mine), mine, strict=True):
        if before != now:
            raise ValueError(f"the {name} changed from {before} to {now}: that needs a restart")


def refuse_other_pools(found: Mapping[str, list[str]]) -> None:
    """Check that the pools of a root that have kept their name are the same.

    Arguments:
        found: name -> [instance, server, runtime directory].

    Raises:
        ValueError: one is not; one line says which and what changed.
    """
    for name, mine in found.items():
        old = _trial.get("pools", {}).get(name, mine)
        for what, before, now in zip(_NAMES[2:], old, mine, strict=True):
            if before != now:
                raise ValueError(
                    f"pool {name}: its {what} changed from {before} to {now}: that needs a restart"
                )


def succeed(code: str) -> None:
    """Say that all is well: the last thing that a trial does.

    Arguments:
        code: what was imported, for the log.
    """
    if os.getpid() == _trial["pid"]:  # else: a fork that came out of the import
        os.write(_trial["word"], " ".join(code.split()).encode("utf-8", "backslashreplace")[:3000] + b"\n")


def _start_guard(fd: int) -> None:
    """Fork a process that ends all of the trial's process group when the master is gone.

    It is not the trial's child: a module that waits for all of its children must not wait for it.
    """
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        if os.fork() == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            os.closerange(0, fd)
            os.closerange(fd + 1, 1 << 16)
            os.read(fd, 1)
            os.killpg(0, signal.SIGKILL)
    finally:
        os._exit(0)
