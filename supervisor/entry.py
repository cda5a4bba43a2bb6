"""The program's first page: signals, what was given, and only then everything else.

Nothing heavy is imported before signals have their meaning. A program that replaces another one in the same
process (`reexec`) and cannot take over from it does not end: the workers are still there and work, and
it tries again until it can.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from . import early

_STATE = ("RSQ_INTERNAL_STATE", "RSQ_INTERNAL_ROOT")
_QUICK = {"--check", "--version", "--help", "-h"}  # ends by itself; a signal ends it as any program
_AGAIN_S = 2.0


def main(run: Callable[[], int] | None = None) -> None:
    """Entry point of the console script; does not return.

    The process ends at once: threads and exit functions of the handler's module must not hold it up.

    Arguments:
        run: the rest of the program, if somebody has imported it already.
    """
    if _QUICK.isdisjoint(sys.argv[1:]):
        early.begin(has_children=any(name in os.environ for name in _STATE))
    code = 1
    try:
        code = _run(run)
    except BaseException:
        _complain()
    _quietly(_flush)
    os._exit(code)


def _flush() -> None:
    from ..ipc import logsink, stdio

    logsink.settle(logsink.LAST_WORDS_S)
    stdio.flush(logsink.LAST_WORDS_S)


def _complain() -> None:
    kind, error, trace = sys.exc_info()
    if kind is not None and error is not None:
        _quietly(lambda: sys.excepthook(kind, error, trace))


def _tell(words: str) -> None:
    from .logs import say

    _quietly(lambda: say(f"rsq-supervisor: error: {words}"))


def _quietly(call: Callable[[], object]) -> None:
    """Do something to a standard stream: it may be closed, or its reader gone."""
    from contextlib import suppress

    with suppress(Exception):
        call()


def _run(run: Callable[[], int] | None) -> int:
    from . import given

    taken = given.take()
    if "RSQ_INTERNAL_TRIAL" in os.environ:
        from . import tried

        tried.begin()
    code = 1
    try:
        if run is None:
            from .cli import run as imported

            run = imported
        code = run()
    except BaseException:
        if not any(name in taken.internal for name in _STATE):
            raise
        _complain()
    return _once_more(code) if any(name in taken.internal for name in _STATE) else code


def _once_more(code: int) -> int:
    """Start again if nobody has taken over what the program before us has left; else return the exit code."""
    import time

    from . import reexec

    if reexec.is_taken_over():
        return code
    while not early.end_asked():
        _tell(
            f"the new program ended with code {code} before it could take over: it tries again, workers go on"
        )
        time.sleep(_AGAIN_S)
        if not early.end_asked():
            reexec.once_more()
    return os.EX_OK


if __name__ == "__main__":
    main()
