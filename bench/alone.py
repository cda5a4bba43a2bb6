"""A worker without a pool: its whole loop on a real server, nothing around it, a lease that never ends.

python -m rsq.bench.alone URL MESSAGES

Reads are always of the same size, whatever the clock says: two runs take the same way.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

from ..ipc.cells import K
from ..ipc.fence import boot_time
from ..ipc.segment import Identity, Segment
from ..streams.connection import target
from ..streams.entry import Message
from ..worker import child
from ..worker.handler import Handler
from ..worker.router import Route
from ..worker.spec import Reading, Retries, Source, Spec, Work
from .raw import COUNT
from .rig import GROUP, STREAM, cpu_s

_FOREVER_S = 1e6
_SLOW_S = 3600.0  # of work in a batch: no clock ends it before `COUNT`


def spec(url: str) -> Spec:
    """Return what the worker is told."""
    source = Source(target(url), STREAM, GROUP, "alone", "0", f"{STREAM}:dlq")
    work = Work("rsq.bench.alone:noop", "json", allow_pickle=False, preload=True)
    reading = Reading(COUNT, _SLOW_S, 5.0, until_empty=False)
    return Spec(source, work, Retries(3, 1.0, 300.0), reading, 300.0, 0.0)


def main(url: str, messages: int) -> int:
    """Handle so many messages; print what it took."""
    count, begun_s = 0, cpu_s()

    def noop(message: Message) -> None:
        nonlocal count
        count += 1
        if count == messages:
            os.kill(os.getpid(), signal.SIGTERM)  # drain: nothing is left to hand back

    with tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        segment = Segment.create(Path(folder), Identity(STREAM, GROUP, "alone"), 1)
        segment.open_slot(0)
        segment.keep.real[K.UNTIL] = boot_time() + _FOREVER_S
        control, _open = os.pipe()
        _, report = os.pipe()
        handler = Handler("noop", (Route((), noop),))
        birth = child.Birth(spec(url), 0, segment, handler, report, True, False, os.getppid())
        code = child.main(birth, control)
    print(json.dumps({"messages": count, "cpu_s": cpu_s() - begun_s, "wall_s": 0.0}))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
