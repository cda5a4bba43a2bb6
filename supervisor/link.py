"""The link between a root and one of its masters: a socket pair, a byte for each word.

The root says what to do, the master says when all that can be wrong with its pool has been looked at. The
end of the link tells each that the other is gone. Words are not signals, because a service manager or a
terminal may send those to every process: a drain that came on both ways must be one drain.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Mapping

VARIABLE = "RSQ_INTERNAL_LINK"
PREPARED = b"p"  # from the master: nothing is wrong, nothing has been read
GO = b"g"
# What the root may say else, and which event of the policy that is.
DRAIN, PRESS, QUIT, RELOAD, MORE, FEWER, LOGS = b"d", b"D", b"q", b"h", b"+", b"-", b"u"
_EVENTS = {
    DRAIN: "DRAIN", PRESS: "PRESS", QUIT: "SIGQUIT", RELOAD: "SIGHUP", MORE: "SIGTTIN", FEWER: "SIGTTOU",
    LOGS: "SIGUSR1",
}  # fmt: skip
_ENDS = ("DRAIN", "PRESS", "SIGQUIT")


def pair() -> tuple[int, int]:
    """Return the root's end and the master's end of a new link; no program inherits either."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours.detach(), theirs.detach()


def send(fd: int, word: bytes) -> None:
    """Say a word; a full or broken link needs no further words."""
    with contextlib.suppress(OSError):
        os.write(fd, word)


class Link:
    """The master's end."""

    def __init__(self, fd: int, root: int, port: int) -> None:
        """Take over an inherited descriptor.

        Arguments:
            fd: of the socket.
            root: pid of the root.
            port: at which the root serves metrics, 0 when it does not.
        """
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        self.fd, self.root, self.port = fd, root, port
        self.is_cut = False
        self._kept = b""  # came together with the word to go
        self._goes = False

    @classmethod
    def inherited(cls) -> Link | None:
        """Return the link to the root that has started this process, None without one; once."""
        words = os.environ.pop(VARIABLE, None)
        return None if words is None else cls(*json.loads(words))

    def export(self) -> Mapping[str, str]:
        """Return what a new program in this process needs to go on with it."""
        return variable(self.fd, self.root, self.port)

    def prepared(self) -> bool:
        """Tell the root that all is well so far, and wait for its word; False when the root is gone.

        Once only: whoever has to wait for something else says so before.
        """
        if self._goes:
            return True
        send(self.fd, PREPARED)
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        while not self.is_cut:
            poll.poll()
            _, go, kept = self._read().partition(GO)
            if go:
                self._goes, self._kept = True, kept
                return True
        return False

    def events(self) -> list[str]:
        """Return what the root has said since, as names of events."""
        said, self._kept = self._kept + self._read(), b""
        return [_EVENTS[word] for at in range(len(said)) if (word := said[at : at + 1]) in _EVENTS]

    @property
    def ends(self) -> bool:
        """Tell whether this process is to end before it has begun: only for one that does not listen yet."""
        return any(event in _ENDS for event in self.events()) or self.is_cut

    def _read(self) -> bytes:
        try:
            said = os.read(self.fd, 4096)
        except BlockingIOError:
            return b""
        except OSError:
            said = b""
        self.is_cut = self.is_cut or not said
        return said


def variable(fd: int, root: int, port: int) -> dict[str, str]:
    """Return the environment from which `Link.inherited` makes a link."""
    return {VARIABLE: json.dumps([fd, root, port])}
