"""Small file systems in memory for tests of full and read-only places; only root can mount them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(place: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs at a new directory; skip the test, saying why, where that is not allowed.

    Arguments:
        place: does not exist yet.
        options: such as `ro` or `size=4096`.
    """
    if sys.platform != "linux":
        pytest.skip("mounting a tmpfs is a matter of Linux")
    place.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", f"mode=0700,{options}", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"a tmpfs cannot be mounted here: {error}")
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)
