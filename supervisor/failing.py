"""How a command ends when it cannot go on: one line on standard error and an exit code that says which kind.

    65   the data given to it is wrong
    66   what was asked for does not exist
    69   the server cannot be reached, or refuses for now
    75   it was not done in time; what was ordered stands
    78   bad usage or configuration: trying again does not help (systemd: RestartPreventExitStatus)
    130  interrupted
    141  whoever read its output has gone

Anything else is a defect of ours and ends with a traceback.
"""

import os
import sys
from collections.abc import Sequence

import click

from ..streams.connection import RedisError, Target, explain, permanent
from .printable import one_line

INTERRUPTED = 130
BROKEN_PIPE = 141


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


def run(command: click.Command, args: Sequence[str] | None = None, *, name: str = "rsq") -> int:
    """Run a click command to its end.

    Arguments:
        command: may return its exit code; None is 0.
        args: default is the process's own arguments.
        name: how the program is called, begins every line about an error.

    Returns:
        The exit code.
    """
    stdout = sys.stdout
    try:
        result = command.main(args, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit: that must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except SystemExit:
        if sys.stdout is stdout:
            raise
        return BROKEN_PIPE  # click has met it, and wrapped the output so that nothing more fails
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Failure as error:
        return _report(name, str(error), error.code)
    except click.UsageError as error:
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        return _report(name, error.format_message() + hint, os.EX_CONFIG)
    except click.ClickException as error:
        return _report(name, error.format_message(), os.EX_CONFIG)
    except ValueError as error:
        return _report(name, str(error), os.EX_CONFIG)
    except RedisError as error:
        known = failure(error, None)
        return _report(name, str(known), known.code)
    return result if isinstance(result, int) else 0


def _report(name: str, text: str, code: int) -> int:
    print(f"{name}: error: {one_line(text)}", file=sys.stderr, flush=True)  # noqa: T201
    return code
