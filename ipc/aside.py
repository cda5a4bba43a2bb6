"""What makes no sense is kept for a post-mortem, beside the segment; only the newest of it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

KEPT = 3  # of each segment; they lie on tmpfs, so they take memory


def place(segment: Path, kind: str) -> Path:
    """Return where to move something of a segment, after the oldest of what lies there was removed.

    Arguments:
        segment: its path.
        kind: a word for the name: `stale` for a whole file, `garbled-3` for slot 3.
    """
    old = [path for word in ("stale", "garbled") for path in segment.parent.glob(f"{segment.stem}.{word}-*")]
    old.sort(key=lambda path: path.name.rpartition("-")[2])
    for path in old[: len(old) - KEPT + 1]:
        with contextlib.suppress(OSError):  # a folder, or another was faster
            path.unlink()
    return segment.with_suffix(f".{kind}-{time.time_ns()}")


def save(segment: Path, kind: str, content: bytes) -> str:
    """Keep bytes of a segment; return the path, or why there is none."""
    path = place(segment, kind)
    try:
        path.touch(0o600, exist_ok=False)
        path.write_bytes(content)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        return f"nowhere ({error.strerror})"
    return str(path)
