"""The end of a worker's process: as that of any Python process, which a plain `os._exit` would skip.

The master's limit for it is `--end-timeout`; what hangs here is killed, and everything below it.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import weakref
from typing import Any

from ..ipc import family
from .handler import Handler

log = logging.getLogger(__name__)


def disown() -> None:
    """Let go, after the fork, of what belongs to the master: it must not end with a worker.

    The import of the handler may have made a temporary folder, or have started a process by multiprocessing.
    Functions that it has registered by `atexit` stay: they run in each worker.
    """
    finalizers: Any = getattr(weakref.finalize, "_registry", {})
    for finalizer in list(finalizers):
        finalizer.atexit = False
    started = getattr(sys.modules.get("multiprocessing.process"), "_children", None)
    if started is not None:
        started.clear()


def run_exit_functions() -> None:
    """Wait for threads that are no daemons, then run the exit functions, as an interpreter does at its end.

    Process pools and managers of multiprocessing end here.
    """
    for step in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        try:
            step()
        except BaseException:
            log.exception("at the end of the process")


def end(handler: Handler, *, alone: bool) -> None:
    """End what the handler has begun, as an interpreter does when its program is over.

    Arguments:
        handler: its event loop is closed first: its tasks may use what the exit functions end.
        alone: the master is gone, so nobody else ends processes that are left over.
    """
    try:
        handler.close_loop()
    except BaseException:
        log.exception("the event loop cannot be closed")
    run_exit_functions()
    if alone or sys.platform != "linux":
        family.kill_below(os.getpid())
