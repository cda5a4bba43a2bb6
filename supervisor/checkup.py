"""`--check`: everything that can be wrong with settings and code, and nothing is started.

A trial of new code (`trial`) is this too. It also insists on what must not change while a pool runs, and says
at the end that it got there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..ipc import exitcodes
from ..streams.url import place
from ..worker.handler import load
from ..worker.ways import Ways
from . import program, roster, runtime, starting, tried
from .settings import Pool


def check(members: Sequence[roster.Member], log_file: str | None) -> int:
    """Check the pools that the settings ask for; return the exit code.

    Arguments:
        members: the pools.
        log_file: where they log, None for standard error.

    Raises:
        ValueError: one line about what is wrong.
    """
    _check_log(log_file)
    if tried.is_of_root():  # the code is tried by its masters
        directory = str(runtime.runtime_dir(members[0].pool.runtime_dir).resolve())
        tried.refuse_other_pools(roster.fixed(members, directory))
        tried.succeed("the settings")
        return exitcodes.OK
    if tried.is_trial() and len(members) > 1:
        raise ValueError("the settings ask for several pools now: that needs a restart")
    for member in members:
        try:
            code = _check_pool(member.pool)
        except ValueError as error:
            raise ValueError(f"pool {member.name}: {error}" if len(members) > 1 else str(error)) from None
        if tried.is_trial():
            tried.succeed(code)
        else:
            spec = member.pool.spec
            sys.stdout.write(f"good: {spec.work.handler} for {member.name} on {spec.source.target}\n")
    return exitcodes.OK


def _check_pool(pool: Pool) -> str:
    """Import the handler and nothing else; return what it is."""
    if tried.is_trial():
        mine, source = pool.identity, pool.spec.source
        directory = str(runtime.runtime_dir(pool.runtime_dir).resolve())
        tried.refuse_other_pool([mine.stream, mine.group, mine.instance, place(source.target), directory])
    if starting.preload(pool, must=True) is None:
        Ways(load(pool.spec.work.handler), pool.spec)
    return program.code_of(pool.spec.work.handler)


def _check_log(file: str | None) -> None:
    if file and os.path.lexists(file) and not os.access(file, os.W_OK):
        raise ValueError(f"--log-file {file} cannot be written to")
    folder = os.path.dirname(file or "") or "."  # noqa: PTH120 - words, as they were given
    if file and not os.path.lexists(file) and not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--log-file {file} cannot be made: {folder} cannot be written to")
