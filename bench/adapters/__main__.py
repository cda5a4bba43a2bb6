"""What runs in a peer's own environment.

python -P -m adapters send NAME URL MESSAGES         push so many messages as fast as it goes
python -P -m adapters pace NAME URL MESSAGES RATE    push so many a second, and note when
python -P -m adapters letters NAME URL               account for the dead letters, where there is a way
python -P -m adapters work NAME URL SETTING          be one worker, until killed
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .account import Account


def paced(account: Account, messages: int, rate: float) -> Iterator[int]:
    """Yield the numbers of messages when they are due, all but the first after that one was handled."""
    account.sent[0] = time.monotonic()
    yield 0
    while not account.times[0]:
        time.sleep(0.01)
    due = time.monotonic()
    for number in range(1, messages):
        time.sleep(max(0.0, due - time.monotonic()))
        account.sent[number] = time.monotonic()
        yield number
        due += 1 / rate


def hide(package: str) -> None:
    """Let an import of a package fail: who installs the peer alone does not get it."""
    modules: dict[str, Any] = sys.modules
    modules[package] = None


def main(verb: str, name: str, url: str, *rest: str) -> None:
    """Do one of the above."""
    adapter: Any = importlib.import_module(f".{name}", __package__)
    if verb == "work":
        if rest[0] == "default" and "hiredis" not in adapter.PACKAGES:
            hide("hiredis")
        adapter.work(url, rest[0])
    elif verb == "pace":
        account = Account(Path(os.environ["RSQ_BENCH_ACCOUNT"]))
        adapter.send(url, paced(account, int(rest[0]), float(rest[1])))
    elif verb == "letters":
        getattr(adapter, "letters", lambda url: None)(url)
    else:
        getattr(adapter, "fill", adapter.send)(url, range(int(rest[0])))


if __name__ == "__main__":
    main(*sys.argv[1:])
