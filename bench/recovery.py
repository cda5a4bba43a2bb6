"""From the crash of a warm worker to its slot's next handled message.

python -m rsq.bench.recovery [--crashes 30]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ..streams.producer import Producer
from . import rig


def main() -> None:
    """Crash one worker many times, print the distribution of the gaps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crashes", type=int, default=30)
    wanted = parser.parse_args()
    with rig.server() as url, tempfile.TemporaryDirectory(prefix="rsq-bench-") as folder:
        with Producer(url, rig.STREAM) as producer:
            producer.push_many({"n": n} for n in range(100 * wanted.crashes))
        report = Path(folder, "report")
        command = [
            sys.executable, "-m", "rsq.supervisor.cli", "--workers", "1", "--redis", url, "--stop-when-empty",
            "--runtime-dir", folder, "--metrics", "127.0.0.1:0", "--log-level", "warning",
            "rsq.bench.handlers:dies",
        ]  # fmt: skip
        with Path(folder, "log").open("wb") as log:
            subprocess.run(
                command, env={**os.environ, "RSQ_BENCH_REPORT": str(report)}, stderr=log, check=True
            )
        gaps, crashed = [], 0.0
        for line in report.read_text().splitlines():
            word, at = line.split()
            if word == "crash":
                crashed = float(at)
            elif crashed:
                gaps.append((float(at) - crashed) * 1000)
                crashed = 0.0
    assert len(gaps) == wanted.crashes, f"{len(gaps)} gaps for {wanted.crashes} crashes"
    gaps.sort()
    print(f"{len(gaps)} crashes, crash to next handled message: median {statistics.median(gaps):.1f} ms,")
    print(f"fastest {gaps[0]:.1f} ms, slowest {gaps[-1]:.1f} ms; target: median at most 50 ms")


if __name__ == "__main__":
    main()
