"""Wrong bytes in shared memory, of a stopped and of a running pool; something else in place of a file."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support_pool import DEADLINE_S, Pool, numbers, until

from rsq.ipc.segment import HEADER_SIZE
from rsq.ipc.slot import SLOT_SIZE

HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] == 0:
            wait_for("go")
        finished(message)
    """


def _path(pool: Pool) -> Path:
    (path,) = pool.runtime.glob("*.seg")
    return path


def _write_noise(pool: Pool, slots: int, seed: int) -> None:
    with _path(pool).open("r+b") as file:
        file.seek(HEADER_SIZE)
        file.write(random.Random(seed).randbytes(slots * SLOT_SIZE))


def _is_another(pool: Pool, before: int) -> bool:
    return pool.booted().get(0) not in (None, before)


def test_of_a_pool_that_was_killed(make_pool: Callable[..., Pool]) -> None:
    """What its slots held is found in Redis: as of a lost host, each charged an attempt and run alone."""
    pool = make_pool(HANDLER, "--workers", "2", "--batch-max", "1", "--lease", "10")
    (first,) = pool.push(numbers(1))
    pool.start()
    until(lambda: pool.started() == {first: 1}, "the start of the first entry")
    pool.signal(signal.SIGKILL)
    pool.wait()
    for pid in pool.holders():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not pool.holders(), "the end of all workers")
    _write_noise(pool, 2, seed=1)
    others = pool.push(numbers(20)[1:])
    pool.redis.set("go", 1)
    pool.start()
    pool.wait_finished([first, *others])
    pool.wait_settled()
    assert pool.started() == dict.fromkeys(others, 1) | {first: 2}
    assert pool.log().count("its shared memory makes no sense") == 2
    assert "its process died" not in pool.log()
    assert pool.stop() == 0
    assert len(list(pool.runtime.glob("*.garbled-*"))) == 2


def test_of_a_pool_that_runs(make_pool: Callable[..., Pool]) -> None:
    """C code of a handler may write anywhere: the slot begins anew, and nobody else dies of it."""
    pool = make_pool(HANDLER, "--workers", "2", "--metrics", "127.0.0.1:0", "--lease", "10")
    pool.redis.set("go", 1)
    pool.start()
    keeper, neighbour = pool.keeper(), pool.worker(1)
    for round_ in range(3):
        worker = pool.worker(0)
        _write_noise(pool, 1, seed=round_)
        os.kill(worker, signal.SIGKILL)
        until(partial(_is_another, pool, worker), "a new process in the slot")
        ids = pool.push(numbers(20))
        pool.wait_finished(ids)
        pool.wait_settled()
    assert (pool.keeper(), pool.worker(1)) == (keeper, neighbour)
    with urllib.request.urlopen(f"http://127.0.0.1:{pool.port()}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    assert 'slot="0"} 1\n' in page[page.index("rsq_slot_memory_set_aside_total{") :]
    assert pool.stop() == 0


@pytest.mark.parametrize("suffix", [".seg", ".lock"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_something_else_has_the_name(
    make_pool: Callable[..., Pool], suffix: str, make: Callable[[Path], None]
) -> None:
    """A FIFO is not waited for, a folder is no traceback: each is moved aside."""
    pool = make_pool(HANDLER)
    pool.redis.set("go", 1)
    assert pool.run() == 0
    path = _path(pool).with_suffix(suffix)
    path.unlink()
    make(path)
    seen = subprocess.run(
        [sys.executable, "-m", "rsq.supervisor.operate", "status", "--runtime-dir", str(pool.runtime)],
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert seen.returncode == (1 if suffix == ".seg" else 0), seen
    assert b"Traceback" not in seen.stderr
    ids = pool.push(numbers(3))
    assert pool.run() == 0
    pool.assert_books(ids) if suffix == ".seg" else pool.wait_finished(ids)
    assert len(list(pool.runtime.glob("*.stale-*"))) == 1
