"""Many raw loops side by side: what a message costs when so many processes share a core.

python -m rsq.bench.crowd URL PROCESSES
"""

from __future__ import annotations

import json
import os
import sys

from . import raw
from .rig import cpu_s


def main(url: str, processes: int) -> None:
    """Fork loops, wait for all of them; each prints its messages and CPU seconds."""
    sys.stdout.flush()
    for _ in range(processes):
        if not os.fork():
            begun = cpu_s()
            words = {"messages": raw.ahead(url), "cpu_s": cpu_s() - begun}
            os.write(sys.stdout.fileno(), json.dumps(words).encode() + b"\n")
            os._exit(0)
    for _ in range(processes):
        os.wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
