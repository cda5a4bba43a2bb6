"""The `rsq` command as a person and as a program use it."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Callable

from support_servers import Server

DEADLINE_S = 120.0
Rsq = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(**settings: str) -> dict[str, str]:
    """Our environment without settings of rsq but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSQ_")}
    return kept | {"TERM": "xterm", "COLUMNS": ""} | settings


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "rsq.supervisor.operate", *args]


def failed(ended: subprocess.CompletedProcess[str], code: int, *words: str) -> bool:
    """Whether it ended with this code and exactly one line that has these words."""
    assert ended.returncode == code, ended
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.startswith("rsq: error: ")
    assert all(word in ended.stderr for word in words), ended.stderr
    return True


class Terminal:
    """`rsq` on a terminal of `columns` characters; `seen` is everything it wrote there."""

    def __init__(self, server: Server, *args: str, columns: int = 100) -> None:
        main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.seen = ""
        self._main = main
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # a read may end within a character
        self.process = subprocess.Popen(
            command(*args),
            stdin=other,
            stdout=other,
            stderr=other,
            env=environment(RSQ_REDIS=server.url),
            start_new_session=True,
        )
        os.close(other)

    def wait_for(self, text: str) -> None:
        while text not in self.seen:
            assert self._read(), f"no {text!r} in {self.seen!r}"

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        while self._read():
            pass
        os.close(self._main)
        return self.process.wait(DEADLINE_S)

    def _read(self) -> bool:
        assert select.select([self._main], [], [], DEADLINE_S)[0], f"nothing more after {self.seen!r}"
        try:
            data = os.read(self._main, 65536)
        except OSError:  # how Linux says that nobody has the other end open
            return False
        self.seen += self._decoder.decode(data)
        return bool(data)
