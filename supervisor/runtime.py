"""The runtime directory: where the segments of a user's pools lie, and where to look for them.

It has to be memory, not disk, and nobody else's: whoever can put a file there can make a pool
believe anything about its predecessor.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_NAME = "rsq"
_SERVICES = Path("/run") / _NAME  # RuntimeDirectory= of deploy/rsq-supervisor@.service
_SHM = Path("/dev/shm")  # noqa: S108 - below it only a folder that is proved to be ours


def runtime_dir(wanted: str | None) -> Path:
    """Return the directory for this process's segments, made when it is missing (mode 0700).

    Arguments:
        wanted: the operator's choice. Without one the first of these that can be used:
            $RUNTIME_DIRECTORY (from systemd), $XDG_RUNTIME_DIR/rsq, a folder of the user on tmpfs.

    Raises:
        ValueError: there is none that this user alone may write to; one line says why.
    """
    if wanted:
        try:
            path = Path(wanted).expanduser()
        except RuntimeError:  # no $HOME, and no such user on this system
            raise ValueError(f"--runtime-dir {wanted}: there is no such home directory") from None
        return _made(path, "--runtime-dir")
    if given := _from_systemd(os.environ):
        return _made(given[0], "$RUNTIME_DIRECTORY")
    session = _session(os.environ)
    if session is not None and os.access(session.parent, os.W_OK | os.X_OK):
        return _made(session, "$XDG_RUNTIME_DIR")
    return _own(_personal())


def runtime_dirs() -> list[Path]:
    """Return the directories in which pools that this user may see can have their segments.

    More places than `runtime_dir` would choose from: whoever looks is rarely in the environment of
    the service that runs.
    """
    session = _session(os.environ)
    places = [*_from_systemd(os.environ), *([session] if session else []), _personal(), _SERVICES]
    with contextlib.suppress(OSError):  # no service of ours on this host, or not for our eyes
        places += sorted(path for path in _SERVICES.iterdir() if path.is_dir())
    return list(dict.fromkeys(places))


def _from_systemd(environment: Mapping[str, str]) -> list[Path]:
    """Return the unit's runtime directories; systemd separates several by colons."""
    return [Path(part) for part in environment.get("RUNTIME_DIRECTORY", "").split(":") if part]


def _session(environment: Mapping[str, str]) -> Path | None:
    place = environment.get("XDG_RUNTIME_DIR")
    return Path(place, _NAME) if place else None


def _personal() -> Path:
    """Return the user's folder in shared memory; in the temporary directory where there is none."""
    base = _SHM if sys.platform == "linux" and _SHM.is_dir() else Path(tempfile.gettempdir())
    return base / f"{_NAME}-{os.getuid()}"


def _made(path: Path, source: str) -> Path:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{source}: cannot make {path}: {error.strerror}; choose another --runtime-dir"
        ) from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise ValueError(f"{source}: {path} cannot be written to; choose another --runtime-dir")
    return path


def _own(path: Path) -> Path:
    """Make a folder in a place where everybody may make folders, or prove that it is ours."""
    _made(path, "runtime directory")
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        trouble = "is a symbolic link"
    elif found.st_uid != os.getuid():
        trouble = f"belongs to user {found.st_uid}"
    elif stat.S_IMODE(found.st_mode) & 0o077:
        trouble = f"is open to others (mode {stat.S_IMODE(found.st_mode):04o}, 0700 is needed)"
    else:
        return path
    raise ValueError(
        f"runtime directory {path} {trouble}: not used; remove it or choose another --runtime-dir"
    )
