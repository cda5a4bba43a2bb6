"""How a command ends when it cannot go on: one line on standard error and an exit code that says which kind.

    65   the data given to it is wrong
    66   what was asked for does not exist
    69   the server cannot be reached, or refuses for now
    74   its output cannot be written: a full disk
    75   it was not done in time; what was ordered stands
    78   bad usage or configuration: trying again does not help (systemd: RestartPreventExitStatus)
    130  interrupted
    141  whoever read its output has gone

74 and 141 are of commands that only show something: what was done, or found by a check, is told by the exit
code whether or not anybody reads the output. Anything else is a defect of ours and ends with a traceback.
"""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

import click

from ..ipc import stdio
from ..streams.connection import RedisError, Target, explain, permanent
from .printable import one_line

INTERRUPTED = 130
BROKEN_PIPE = 141
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)  # of a write to an open file
_UNWRITTEN = "the output cannot be written"


class Failure(Exception):
    """A line for a person, and the exit code."""

    def __init__(self, line: str, code: int) -> None:
        """See the module for the codes."""
        super().__init__(line)
        self.code = code


def failure(error: RedisError, target: Target | None, done: str = "") -> Failure:
    """What an error of the server means for a command.

    Arguments:
        error: from any call of `streams`.
        target: the server.
        done: what has been achieved before, to be told too.
    """
    line = explain(error, target) + (f"; {done}" if done else "")
    return Failure(line, os.EX_CONFIG if permanent(error) else os.EX_UNAVAILABLE)


def tell(line: str, *, err: bool = False) -> None:
    """Print a line about what was done. That nobody can read it changes nothing: the exit code says it too.

    Arguments:
        line: without its line break.
        err: to standard error.
    """
    try:
        click.echo(line, err=err)
    except (OSError, ValueError):  # a pipe that nobody reads, a full disk; the last: it is closed
        _mute(sys.stderr if err else sys.stdout)


def run(command: click.Command, args: Sequence[str] | None = None, *, name: str = "rsq") -> int:
    """Run a click command to its end.

    Arguments:
        command: may return its exit code; None is 0.
        args: default is the process's own arguments.
        name: how the program is called, begins every line about an error.

    Returns:
        The exit code.
    """
    code, line = outcome(command, args, name)
    if line:
        tell(line, err=True)
    for stream in (sys.stdout, sys.stderr):
        if (error := _flushed(stream)) is not None:
            # Python flushes once more at exit: that must not fail, or the code would be another.
            _mute(stream)
            if stream is sys.stdout and code == 0:
                code = BROKEN_PIPE if isinstance(error, BrokenPipeError) else os.EX_IOERR
                if code == os.EX_IOERR:
                    tell(f"{name}: error: {_UNWRITTEN}: {getattr(error, 'strerror', error)}", err=True)
    return code


def outcome(command: click.Command, args: Sequence[str] | None, name: str) -> tuple[int, str]:
    """Run a click command, whatever has become of the standard streams; see `run`.

    Returns:
        The exit code, and the line that is to be said about an error.
    """
    stdio.open_missing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without Unicode is no reason to fail
            stream.reconfigure(errors="backslashreplace")
    code, words = _main(command, args, name)
    return code, words and f"{name}: error: {one_line(words)}"


def _main(command: click.Command, args: Sequence[str] | None, name: str) -> tuple[int, str]:
    stdout = sys.stdout
    try:
        result = command.main(args, prog_name=name, standalone_mode=False)
    except BrokenPipeError:
        return BROKEN_PIPE, ""
    except SystemExit:
        if sys.stdout is stdout:
            raise
        sys.stdout = stdout
        return BROKEN_PIPE, ""  # click has met it
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED, ""
    except Failure as error:
        return error.code, str(error)
    except click.UsageError as error:
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        return os.EX_CONFIG, error.format_message() + hint
    except click.ClickException as error:
        return os.EX_CONFIG, error.format_message()
    except ValueError as error:
        return os.EX_CONFIG, str(error)
    except RedisError as error:
        known = failure(error, None)
        return known.code, str(known)
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        _mute(stdout)
        return os.EX_IOERR, f"{_UNWRITTEN}: {error.strerror}"
    return result if isinstance(result, int) else 0, ""


def _flushed(stream: TextIO) -> Exception | None:
    """Write what a standard stream still holds; return why that is not possible."""
    try:
        stream.flush()
    except (OSError, ValueError) as error:
        return error
    return None


def _mute(stream: TextIO) -> None:
    """Let all that is printed from now on go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        fd = os.open(os.devnull, os.O_WRONLY)
        os.dup2(fd, stream.fileno())
        os.close(fd)
