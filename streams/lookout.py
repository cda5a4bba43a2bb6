"""The lookout: whether a connection still leads to the server that it should.

A primary behind sentinels can be replaced without knowing it: it was frozen, or is cut off from the others.
Until a sentinel reaches it, which takes some ten seconds, it goes on confirming what nobody will keep. So
whoever has a connection asks a sentinel once a second while it uses it, which also means: before it believes
an answer that came after a longer pause. A server of one address, and a node of a cluster, say so themselves.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Any

import redis
from redis.exceptions import RedisError

from .connecting import ASK_S, ask_of, connected, find, sock
from .discovery import Address
from .url import Target

EVERY_S = 1.0
_SHARE = 10  # sentinels that keep us waiting are asked again after so many times as long


class Lookout:
    """Where the primary is, by the sentinels' word; asked at most once a second. Threads may share it."""

    def __init__(self, target: Target, timeout_s: float) -> None:
        """Ask nothing yet.

        Arguments:
            target: one that goes by sentinels.
            timeout_s: how long a search may take.
        """
        self._target, self._timeout_s = target, timeout_s
        self._address: Address | None = None  # as it was said last
        self.due = 0.0  # monotonic: when to ask again
        self._place = 0  # of the sentinel that is asked
        self._begin()

    def _begin(self) -> None:
        self._pid, self._lock = os.getpid(), threading.Lock()
        self._link: Any = None
        self._seen = 0, 0  # of the link's descriptor

    def find(self) -> Address:
        """Search for the primary, for a new connection; see `connecting.find`."""
        self._address = find(self._target, self._timeout_s)
        self.due = time.monotonic() + EVERY_S
        return self._address

    def still(self, address: Address) -> bool:
        """Return whether a primary is the primary still; if no sentinel answers, it is taken to be."""
        if time.monotonic() >= self.due:
            if self._pid != os.getpid():
                self._begin()  # the lock may have been held, and the link is our parent's
            if self._lock.acquire(blocking=False):
                try:
                    self._ask()
                finally:
                    self._lock.release()
        return self._address is None or self._address == address

    def close(self) -> None:
        """Close the connection to the sentinel."""
        if self._link is None:
            return
        if not self._is_ours():
            with contextlib.suppress(redis.exceptions.ConnectionError):  # it has ended by itself
                sock(self._link).detach()  # its number may be another file's by now
        self._link.disconnect()
        self._link = None

    def _ask(self) -> None:
        began = time.monotonic()
        said = self._word()
        if said is not None and said != self._address:
            try:
                found = find(self._target, self._timeout_s)
            except RedisError:
                found = said  # a failover is under way: whoever connects anew waits for its end
            if found == self._address:  # it was old news
                self._place += 1
                self.close()
            self._address = found
        now = time.monotonic()
        self.due = now + max(EVERY_S, _SHARE * (now - began) if said is None else 0.0)

    def _word(self) -> Address | None:
        """Return whom a sentinel names, the one that answered last; None if nobody answers."""
        count = len(self._target.places)
        patience_s = min(ASK_S, self._timeout_s) / count  # of each: the next one may answer
        for _ in range(1 + count):
            new = self._link is None or not self._is_ours()
            try:
                if new:
                    self.close()
                    self._link = self._connect(patience_s)
                self._link.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._target.service)
                host, port = self._link.read_response()
            except (RedisError, OSError, TypeError, ValueError):  # of the last two: it does not know it
                self.close()
                if new:
                    self._place += 1
            else:
                return host.decode(), int(port)
        return None

    def _connect(self, timeout_s: float) -> Any:
        places = self._target.places
        kind, settings = ask_of(self._target, places[self._place % len(places)], timeout_s, sentinel=True)
        link = connected(kind, settings)
        seen = os.fstat(sock(link).fileno())
        self._seen = seen.st_dev, seen.st_ino
        return link

    def _is_ours(self) -> bool:
        """Tell whether the descriptor is still the socket's: user code may have closed it."""
        try:
            seen = os.fstat(sock(self._link).fileno())
        except (OSError, redis.exceptions.ConnectionError):
            return False
        return (seen.st_dev, seen.st_ino) == self._seen


def lookout(target: Target, timeout_s: float) -> Lookout | None:
    """Return a lookout where a server may have been replaced and not know it, else None."""
    return Lookout(target, timeout_s) if target.way == "sentinel" else None
