"""What the program was given: command line, environment and working directory, as they were at its start.

The handler's module may change any of them (`os.chdir`, `os.environ`, `sys.argv`). A reload, and the start of
another master, use what was given.

The working directory is kept as the path by which it was entered: $PWD if that names it, for the kernel knows
only where a symbolic link led. A deploy that points `current` to another release and sends HUP is followed.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .notify import VARIABLES

INTERNAL = "RSQ_INTERNAL_"  # how all variables begin by which our own processes speak to each other


@dataclass(frozen=True, slots=True)
class Given:
    """A command line, an environment, a working directory.

    Arguments:
        program: how to start the program: the script, or the interpreter.
        words: all that follows, in order.
        environment: without what is in `internal`.
        internal: variables for this process alone: our own, and those of the service manager.
        directory: the working directory, as a path that is followed anew.
    """

    program: str
    words: tuple[str, ...]
    environment: Mapping[str, str]
    internal: Mapping[str, str]
    directory: str


_taken: list[Given] = []


def take() -> Given:
    """Return what the program was given; the first call decides, and has to come before any user code."""
    if not _taken:
        internal: dict[str, str] = {}
        rest: dict[str, str] = {}
        for name, value in os.environ.items():
            mine = name.startswith(INTERNAL) or name in VARIABLES
            (internal if mine else rest)[name] = value
        directory = working_directory(rest)
        program, words = command_line(sys.orig_argv, sys.executable, directory)
        _taken.append(Given(program, words, rest, internal, directory))
    return _taken[0]


def working_directory(environment: Mapping[str, str]) -> str:
    """Return the path of the working directory: $PWD if it names it, else what the kernel says."""
    pwd = environment.get("PWD", "")
    try:
        if os.path.isabs(pwd) and os.path.samestat(os.stat(pwd), os.stat(".")):  # noqa: PTH116, PTH117
            return pwd
    except (OSError, ValueError):
        pass
    return os.getcwd()  # noqa: PTH109 - it is not looked at as a path


def command_line(arguments: Sequence[str], executable: str, directory: str) -> tuple[str, tuple[str, ...]]:
    """Return how to start the program again, and what follows.

    A script that names its interpreter in its first line is started as a script: the release that `current`
    points to by then may have an interpreter of its own.

    Arguments:
        arguments: as the kernel gave them (`sys.orig_argv`).
        executable: the interpreter's path.
        directory: where it was started.
    """
    interpreter = arguments[0] if arguments else ""
    for at in (1, 2):  # the first line may give the interpreter one option
        if len(arguments) > at and _is_script(Path(directory, arguments[at]), arguments[:at]):
            return arguments[at], tuple(arguments[at + 1 :])
    if "/" in interpreter and _is_same(Path(directory, interpreter), Path(executable)):
        return interpreter, tuple(arguments[1:])
    return executable, tuple(arguments[1:])


def _is_script(path: Path, before: Sequence[str]) -> bool:
    """Tell whether a file is a program that the kernel starts with just these words in front of its name."""
    try:
        with path.open("rb") as file:
            lines = file.read(1024).decode("utf-8", "surrogateescape").splitlines()
        if not os.access(path, os.X_OK):
            return False
    except (OSError, ValueError):
        return False
    first = lines[0] if lines else ""
    if not first.startswith("#!"):
        return False
    words = first[2:].split(None, 1)
    if [word.strip() for word in words] == list(before):
        return True
    name = before[0]
    if len(before) == 1 and re.fullmatch(rf"#!\s*\S*/env\s+{re.escape(name)}\s*", first):
        return True
    # A path that is too long, or has a blank: the script is one of the shell that starts the interpreter.
    shell = first.strip() == "#!/bin/sh" and len(lines) > 1 and "exec" in lines[1]
    return shell and len(before) == 1 and name.strip("'\"") in lines[1] and "/" in name


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
