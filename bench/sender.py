"""Sends messages at a steady rate that say when they were sent: python -m rsq.bench.sender URL COUNT RATE

Each is `[number, monotonic seconds]`, numbers from zero, the last one -1. A due time that has passed is not
made up for by a burst: the messages behind it are as late.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import hiredis

from .raw import dial
from .rig import STREAM


def main() -> None:
    """Send."""
    url, count, pause = sys.argv[1], int(sys.argv[2]), 1 / float(sys.argv[3])
    connection, receive = dial(url)
    pack: Any = hiredis.pack_command
    due = time.monotonic()
    for number in range(count):
        due = max(due + pause, time.monotonic())
        time.sleep(due - time.monotonic() if due > time.monotonic() else 0)
        data = b"[%d,%.9f]" % (number if number < count - 1 else -1, time.monotonic())
        connection._sock.sendall(pack(("XADD", STREAM, "*", "data", data)))
        receive()


if __name__ == "__main__":
    main()
