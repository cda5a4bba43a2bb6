"""Handlers for `rsq bench`."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ..streams.entry import Message

TIMES = "RSQ_BENCH_TIMES"  # in the environment: the file for `note`


def ignore(message: Message) -> None:
    """Do nothing."""


def note(message: Message) -> None:
    """Append the moment to a file: a line of monotonic seconds."""
    now = time.monotonic()
    with Path(os.environ[TIMES]).open("a") as file:
        file.write(f"{now:.6f}\n")
