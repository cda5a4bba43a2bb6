"""A trial: a fresh interpreter tries new code, so that the master need not dare. The master's side.

It is the program that would follow, with its arguments, environment and working directory. It succeeds only
by saying so: a line in a pipe, after the import and all checks (`tried` is its own side). It has a limit, and
it ends with all that it has started: when its master wants, and when its master ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from . import given, reexec

VARIABLE = "RSQ_INTERNAL_TRIAL"
_WORD_MAX = 65536


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trial has found.

    Arguments:
        words: why the new code is no good; empty when it is good.
        code: what it has imported: names, path, version.
    """

    words: str
    code: str = ""


@dataclass(slots=True)
class Trial:
    """One running trial.

    Arguments:
        process: its interpreter, which leads a process group of its own.
        said: what it writes to standard error.
        word_fd: where it says that all is well.
        guard_fd: whose end tells its guard that we are gone.
        limit_s: how long it may take.
        deadline: monotonic seconds.
    """

    process: subprocess.Popen[bytes]
    said: IO[bytes]
    word_fd: int
    guard_fd: int
    limit_s: float
    deadline: float
    _word: bytes = b""

    def verdict(self) -> Verdict | None:
        """Return what has been found, None while that is not known. It has ended then."""
        with contextlib.suppress(BlockingIOError):
            while len(self._word) < _WORD_MAX and (more := os.read(self.word_fd, _WORD_MAX)):
                self._word += more
        if self._word.endswith(b"\n"):
            found = Verdict("", self._word.decode("utf-8", "replace").strip())
        elif self.process.poll() is not None:
            found = Verdict(self._reason())
        elif time.monotonic() >= self.deadline:
            found = Verdict(f"it took longer than {self.limit_s:g} s (--reload-timeout)")
        else:
            return None
        self.end()
        return found

    def _reason(self) -> str:
        self.said.seek(0)
        said = self.said.read().decode("utf-8", "replace").strip().splitlines()
        code = self.process.returncode
        if code == 0:
            return "the interpreter ended with code 0 before all was checked: does a module end it on import?"
        return said[-1] if said else f"the interpreter ended with code {code}"

    def end(self) -> None:
        """End it, with all that it has started and that is still in its process group."""
        # Its guard is in the group until now: the number cannot be another's yet.
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(OSError):
                if kill is os.killpg or self.process.returncode is None:
                    kill(self.process.pid, signal.SIGKILL)
        if self.process.returncode is None:
            self.process.returncode = -signal.SIGKILL  # reaped with all others: it must not do so itself
        for fd in (self.word_fd, self.guard_fd):
            with contextlib.suppress(OSError):
                os.close(fd)
        self.said.close()


def begin(same: Mapping[str, Any], limit_s: float) -> Trial | Verdict:
    """Start a trial; return a verdict when it cannot be started.

    Arguments:
        same: what must not change, see `tried`.
        limit_s: how long it may take.
    """
    with contextlib.ExitStack() as opened:
        try:
            return _begin(same, limit_s, opened)
        except (OSError, ValueError, MemoryError, subprocess.SubprocessError) as error:
            return Verdict(f"no interpreter could be started to try the new code: {error}")


def _begin(same: Mapping[str, Any], limit_s: float, opened: contextlib.ExitStack) -> Trial:
    word_r, word_w = os.pipe()
    opened.callback(os.close, word_w)
    undo = contextlib.ExitStack()
    opened.push(lambda kind, _error, _trace: undo.close() if kind else None)
    undo.callback(os.close, word_r)
    os.set_blocking(word_r, False)
    guard_r, guard_w = os.pipe()
    opened.callback(os.close, guard_r)
    undo.callback(os.close, guard_w)
    said = undo.enter_context(_memory())
    arguments, environment = reexec.command("--check")
    words = json.dumps({"word": word_w, "guard": guard_r, **same})
    process = subprocess.Popen(  # noqa: S603 - our own program, our own arguments
        arguments,
        env={**environment, VARIABLE: words},
        cwd=given.take().directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        pass_fds=(word_w, guard_r),
        process_group=0,
    )
    undo.pop_all()
    return Trial(process, said, word_r, guard_w, limit_s, time.monotonic() + limit_s)


def _memory() -> IO[bytes]:
    """Return a file without a name: a pipe that nobody reads would fill up and stop the trial."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # a sandbox that does not know it
            return open(os.memfd_create("rsq-trial"), "w+b")  # noqa: PTH123
    return tempfile.TemporaryFile()
