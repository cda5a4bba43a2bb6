"""What the master tells systemd, by the protocol of sd_notify(3).

One datagram per message, to the socket named in $NOTIFY_SOCKET. Nothing here blocks or raises: a
service manager that does not listen must not stop a pool. What could not be sent goes out with the
next message, for systemd would wait in vain for a lost READY.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

SOCKET, WATCHDOG, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
VARIABLES = (SOCKET, WATCHDOG, WATCHDOG_PID)
_STATES = ("READY", "RELOADING", "STOPPING")
_STATUS_MAX = 1000  # characters; it is one line for a person


class Notifier:
    """The service manager, as the master sees it. Without one every call does nothing."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Take the address out of the environment, so that no child inherits it.

        Arguments:
            environment: what `export` returned before a re-exec; None for the process's own.
        """
        self._given = self.clean_environment()
        if environment is not None:
            self._given = {name: environment[name] for name in VARIABLES if name in environment}
        self._address = _address(self._given.get(SOCKET, ""))
        self._owed: dict[str, str] = {}
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @staticmethod
    def clean_environment() -> dict[str, str]:
        """Remove the protocol's variables from `os.environ` and return those that were there.

        A child that speaks to the service manager would be taken for the service.
        """
        return {name: value for name in VARIABLES if (value := os.environ.pop(name, None)) is not None}

    def export(self) -> dict[str, str]:
        """Return the variables that a new program in this process needs to go on."""
        return dict(self._given)

    @property
    def fileno(self) -> int:
        """Return the socket's descriptor, -1 without one: children close it."""
        return -1 if self._socket is None else self._socket.fileno()

    @property
    def watchdog_interval_s(self) -> float | None:
        """Return how often to call `watchdog`: half of what systemd allows. None when it does not watch."""
        usec, pid = self._given.get(WATCHDOG, ""), self._given.get(WATCHDOG_PID, "")
        if self._socket is None or not usec.isascii() or not usec.isdecimal() or int(usec) == 0:
            return None
        if pid and pid != str(os.getpid()):
            return None
        return int(usec) / 2e6

    def ready(self, status: str = "") -> None:
        """Say that the start, or a reload, is complete."""
        self._tell({"READY": "1", "MAINPID": str(os.getpid()), **_status(status)})

    def reloading(self, status: str = "") -> None:
        """Say that a reload has begun; `ready` ends it."""
        # systemd compares the time with its own to know which reload this is the answer to.
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell({"RELOADING": "1", "MONOTONIC_USEC": str(usec), **_status(status)})

    def stopping(self, status: str = "") -> None:
        """Say that the pool is ending."""
        self._tell({"STOPPING": "1", **_status(status)})

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._tell(_status(text))

    def watchdog(self) -> None:
        """Say that supervision is alive: after each full pass, at least every `watchdog_interval_s`."""
        if self.watchdog_interval_s is not None:
            self._tell({"WATCHDOG": "1"})

    def extend_timeout(self, seconds: float) -> None:
        """Ask for that much time, from now on, for the start or the stop that is going on."""
        self._tell({"EXTEND_TIMEOUT_USEC": str(int(seconds * 1e6))})

    def close(self) -> None:
        """Close the socket: for children, which share it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, lines: dict[str, str]) -> None:
        if self._socket is None or self._address is None or not lines:
            return
        if not lines.keys().isdisjoint(_STATES):  # a newer state replaces one that was never heard
            self._owed = {name: value for name, value in self._owed.items() if name == "STATUS"}
        message = {**self._owed, **lines}
        try:
            self._socket.sendto("\n".join(f"{k}={v}" for k, v in message.items()).encode(), self._address)
        except OSError:
            message.pop("WATCHDOG", None)  # the past: never true later on
            message.pop("EXTEND_TIMEOUT_USEC", None)
            self._owed = message
        else:
            self._owed = {}


def _address(name: str) -> str | None:
    """Return the socket's address as the socket module wants it, None for one we cannot use."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if Path(name).is_absolute() else None


def _status(text: str) -> dict[str, str]:
    line = " ".join(text.split())[:_STATUS_MAX]
    return {"STATUS": line.encode("utf-8", "replace").decode()} if line else {}
