"""The runtime directory cannot be made, or cannot be written to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support_mounts import mounted
from support_pool import Pool, numbers

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """


def _refused(pool: Pool, place: Path) -> None:
    ids = pool.push(numbers(3))
    assert pool.start("--runtime-dir", str(place), ready=False).wait() == 78
    (line,) = pool.log().splitlines()
    assert line.startswith("rsq-supervisor: error: ")
    assert str(place) in line
    assert "--runtime-dir" in line
    assert pool.redis.xinfo_groups("events") == []
    assert pool.run() == 0
    pool.assert_exact(ids)


def test_below_a_file(make_pool: Callable[..., Pool]) -> None:
    """One line, exit code 78 (starting again cannot help), and nothing was read."""
    pool = make_pool(HANDLER)
    (pool.folder / "file").write_text("")
    _refused(pool, pool.folder / "file" / "run")


@pytest.mark.parametrize("exists", [True, False])
def test_on_a_read_only_file_system(make_pool: Callable[..., Pool], exists: bool) -> None:
    pool = make_pool(HANDLER)
    with mounted(pool.folder / "disk", "ro") as disk:
        _refused(pool, disk if exists else disk / "run")
