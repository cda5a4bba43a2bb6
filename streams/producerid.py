"""The name of a process for servers that remember ids of producers: the same for one process after another.

A server keeps the ids of each name for a while; where its clock is behind the ids of a stream, for ever. So
there must be few names, and a process that lives for a second must not bring a new one.

Each live process of a user on a host holds one of a folder of small files, by a lock; the name is what is in
the file. If somebody removes a file that is in use, the next one of that number has another name: no two live
processes share one. Where no file can be had, the name is random.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

try:
    import fcntl
except ImportError:  # no POSIX
    fcntl = None  # type: ignore[assignment]

PLACES = 256  # processes that push at the same time; those beyond have random names
_SIZE = 12


def new_name() -> str:
    """Return a name that nobody has had."""
    return secrets.token_hex(_SIZE // 2)


class ProcessName:
    """The name of this process, for one thread at a time; a forked child gets another."""

    def __init__(self, folder: Path | None = None) -> None:
        """Take nothing yet.

        Arguments:
            folder: where the files are; None for the user's folder in the temporary directory.
        """
        self._folder = folder
        self._begin()

    def _begin(self) -> None:
        # A child leaves the file of its parent open: by the number of a descriptor it could close another's.
        self._pid = os.getpid()
        self._name = ""
        self._file: Path | None = None

    def get(self) -> str:
        """Return the name."""
        if self._pid != os.getpid():
            self._begin()
        if not self._name:
            self._name = self._take() or new_name()
        return self._name

    def change(self) -> None:
        """Take a new name, for this process and for those that come after it in its place."""
        if self._pid != os.getpid():
            self._begin()
        if not self._name:
            return
        self._name = new_name()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.write_text(self._name)

    def _take(self) -> str:
        """Take a place that no live process has; return its name, empty if there is none."""
        if fcntl is None:
            return ""
        with contextlib.suppress(OSError):
            folder = self._folder or Path(tempfile.gettempdir(), f"rsq-producers-{os.getuid()}")
            folder.mkdir(mode=0o700, exist_ok=True)
            if not _is_ours(folder):
                return ""
            for number in range(PLACES):
                handle = os.open(folder / str(number), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
                try:
                    # Not a record lock, which ends when any descriptor of the file is closed.
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    name = _read(handle)
                except OSError:
                    os.close(handle)
                    continue
                self._file = folder / str(number)  # and the descriptor stays open
                return name
        return ""


def _is_ours(folder: Path) -> bool:
    """Tell whether nobody else can write into a folder where everybody may make folders."""
    found = folder.lstat()
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and not stat.S_IMODE(found.st_mode) & 0o022
    )


def _read(handle: int) -> str:
    """Return what is in the file; if that is no name, put one there."""
    said = os.pread(handle, _SIZE + 1, 0).decode("ascii", "replace")
    if len(said) == _SIZE and said.isalnum():
        return said
    name = new_name()
    os.ftruncate(handle, 0)
    os.pwrite(handle, name.encode(), 0)
    return name
