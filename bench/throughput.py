"""CPU per message of one worker, everything on, beside the raw loop and the one-by-one loop of redis-py.

python -m rsq.bench.throughput [--messages 200000] [--runs 5]
"""

from __future__ import annotations

import argparse
import platform
import statistics

from . import rig

ONE_BY_ONE = 20_000  # it is so slow that a tenth of the messages tells as much


def main() -> None:
    """Measure in turn, print ratios with their spread."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=5)
    wanted = parser.parse_args()
    with rig.server() as url:
        print(f"Python {platform.python_version()}, server {rig.version(url)}, {wanted.messages:,} messages")
        print(f"{'run':>3} {'pool us':>8} {'raw us':>8} {'one us':>8} {'pool/raw':>9} {'one/pool':>9}")
        to_raw, to_one = [], []
        for run in range(1, wanted.runs + 1):
            rig.preload(url, wanted.messages)
            pool = rig.pool_cost(url, wanted.messages)
            rig.check_all_acknowledged(url, wanted.messages)
            rig.preload(url, wanted.messages)
            raw = rig.measured(["-m", "rsq.bench.raw", "ahead", url])
            rig.check_all_acknowledged(url, wanted.messages)
            rig.preload(url, ONE_BY_ONE)
            one = rig.measured(["-m", "rsq.bench.raw", "one", url])
            rig.check_all_acknowledged(url, ONE_BY_ONE)
            to_raw.append(pool.us / raw.us)
            to_one.append(pool.per_core / one.per_core)
            print(f"{run:>3} {pool.us:8.2f} {raw.us:8.2f} {one.us:8.2f} {to_raw[-1]:9.2f} {to_one[-1]:9.1f}")
    print(f"worker CPU per message against the raw loop: {rig.spread(to_raw)} times, target at most 2")
    print(f"messages per core against one by one: {rig.spread(to_one)} times, target at least 20")
    met = statistics.median(to_raw) <= 2 and statistics.median(to_one) >= 20
    print("targets met" if met else "targets missed")


if __name__ == "__main__":
    main()
