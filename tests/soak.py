"""The soak: two pools under load, on one server, while everything is killed at random, from a seed.

    python tests/soak.py [--seconds 600] [--seed N] [--server 7.0]

Workers, keepers, masters, whole pools and the server are killed (-9), stopped for longer than the lease
and woken again, reloaded and restarted; connections are cut, stalled and made to lose bytes. In the end
all is made well, and the ledger has to prove:

    every entry is finished or dead-lettered or both are explained, none is lost, none is left pending;
    a poisonous entry, and no other one, is dead-lettered;
    an entry was started again only after it failed, or after a fault that may have cut it off;
    handled + dead-lettered + lost = pushed, in the metrics of all pools and in Redis.

A failure prints the seed, and what was done when.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))

from support_soak import Soak


def main() -> int:
    """Run it; return 0 when all is proved."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--server", default="7.0", help="part of a server's name, as 6.2, 7.0 or valkey")
    parser.add_argument("--without", default="", help="faults to leave out, by name, with commas")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="rsq-soak-"))
    soak = Soak(given.seed, folder, given.server)
    for name in filter(None, given.without.split(",")):
        del soak.faults[name]
    try:
        soak.run(given.seconds)
        soak.prove()
    except BaseException as error:
        print(f"\nFAILED with seed {given.seed}; logs in {folder}: {error}", flush=True)
        raise
    finally:
        soak.end()
    print(f"proved, seed {given.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
