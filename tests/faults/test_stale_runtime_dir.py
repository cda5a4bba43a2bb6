"""The runtime directory holds what another program, another version or a dead pool has left."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

from rsq.ipc.cells import P, S
from rsq.ipc.segment import HEADER_SIZE, MAGIC, VERSION, Identity, Segment
from rsq.ipc.slot import SLOT_SIZE

OURS = Identity("events", "workers", "test")
HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """
STALE = {
    "garbage": b"\xff\x00garbage" * 5000,
    "empty": b"",
    "shorter than it says": struct.pack("<8sQQQ", MAGIC, VERSION, SLOT_SIZE, 64) + bytes(HEADER_SIZE),
}


@pytest.mark.parametrize("what", STALE)
def test_a_file_that_is_no_segment_is_put_aside(make_pool: Callable[..., Pool], what: str) -> None:
    """The pool starts with a new one; the old one is kept for whoever wants to look at it."""
    pool = make_pool(HANDLER)
    pool.runtime.mkdir(mode=0o700)
    (pool.runtime / OURS.filename).write_bytes(STALE[what])
    ids = pool.push(numbers(5))
    assert pool.run() == 0
    pool.assert_exact(ids)
    kept = [found.read_bytes() for found in pool.runtime.glob("*.stale-*")]
    assert kept == ([STALE[what]] if STALE[what] else [])


def test_a_segment_of_another_version_is_put_aside(make_pool: Callable[..., Pool]) -> None:
    """Nobody can say what its bytes mean; what was pending is found in Redis."""
    pool = make_pool(HANDLER)
    ids = pool.push(numbers(5))
    assert pool.run() == 0
    with (pool.runtime / OURS.filename).open("r+b") as file:
        file.seek(len(MAGIC))
        file.write((VERSION + 1).to_bytes(8, "little"))
    ids += pool.push(numbers(5))
    assert pool.run() == 0
    assert len(list(pool.runtime.glob("*.stale-*"))) == 1
    assert pool.counters()["HANDLED"] == 5, "a new one begins with zero"
    assert pool.started() == pool.finished() == dict.fromkeys(ids, 1)


def test_a_segment_of_dead_processes_is_gone_on_with(make_pool: Callable[..., Pool]) -> None:
    """Pids in it mean nothing, even where they belong to somebody else now: locks do."""
    pool = make_pool(HANDLER)
    ids = pool.push(numbers(5))
    assert pool.run() == 0
    segment = Segment.create(pool.runtime, OURS, 1)
    segment.pool.view[P.MASTER_PID] = segment.slot(0).seat.view[S.PID] = os.getpid()
    segment.close()
    ids += pool.push(numbers(5))
    assert pool.run() == 0
    pool.assert_exact(ids)
