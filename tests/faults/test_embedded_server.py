"""The embedded server: it lives as long as its pool, keeps its data, and is replaced when it dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support_pool import Pool, numbers, until
from support_servers import Server, is_gone

from rsq import Producer
from rsq.streams import embedded
from rsq.streams.connection import RedisError, client, target

HANDLER = """
def handle(message):
    started(message)
    finished(message)
"""


@pytest.fixture
def pool(server: Server, tmp_path: Path) -> Iterator[Pool]:
    """A pool on a server of its own; the ledger is kept there too."""
    url = f"embedded:{tmp_path / 'data'}"
    made = Pool(server, tmp_path, HANDLER, "--redis", url)
    socket = target(url).url
    made.environment["LEDGER_URL"] = socket
    yield made
    made.discard()


def _check(pool: Pool, ids: list[str]) -> None:
    """Check all while the server is there; what is acknowledged is counted a moment later."""
    pool.wait_finished(ids)
    pool.wait_settled()
    until(lambda: pool.counters()["HANDLED"] == len(ids), "the count of what was handled")
    pool.assert_exact(ids)


def _use(pool: Pool, folder: Path) -> None:
    """Look for stream and ledger on the embedded server from now on."""
    pool.redis = client(target(f"embedded:{folder / 'data'}"))
    pool.books = pool.redis


def _server_of(pool: Pool) -> psutil.Process:
    (found,) = [child for child in psutil.Process(pool.pid).children() if "valkey-server" in child.name()]
    return found


def _push(pool: Pool, folder: Path, count: int) -> list[str]:
    with Producer(f"embedded:{folder / 'data'}") as producer:
        return [producer.push(item) for item in numbers(count)]


def test_it_ends_with_its_pool_and_keeps_its_data(pool: Pool, tmp_path: Path) -> None:
    """Data of before a restart are there after it."""
    pool.start()
    _use(pool, tmp_path)
    ids = _push(pool, tmp_path, 50)
    pool.wait_finished(ids)
    server = _server_of(pool)
    assert pool.stop() == 0
    assert not server.is_running()
    assert embedded.lock_free(tmp_path / "data")
    pool.start()
    ids += _push(pool, tmp_path, 50)
    _check(pool, ids)
    assert pool.stop() == 0


def test_it_does_not_outlive_a_killed_master(pool: Pool, tmp_path: Path) -> None:
    """kill -9 of the master: the server goes too, and the next pool has its data."""
    pool.start()
    _use(pool, tmp_path)
    ids = _push(pool, tmp_path, 50)
    pool.wait_finished(ids)
    pool.wait_settled()
    server = _server_of(pool)
    pool.signal(signal.SIGKILL)
    pool.wait()
    until(lambda: is_gone(server.pid), "the end of the server")
    pool.start()
    ids += _push(pool, tmp_path, 50)
    _check(pool, ids)
    assert pool.stop() == 0


def test_it_is_replaced_when_it_dies(pool: Pool, tmp_path: Path) -> None:
    """kill -9 of the server: a new one on the same data, and the workers go on."""
    pool.start()
    _use(pool, tmp_path)
    ids = _push(pool, tmp_path, 50)
    pool.wait_finished(ids)
    pool.wait_settled()
    os.kill(_server_of(pool).pid, signal.SIGKILL)
    pool.wait_log("embedded server: its process died: SIGKILL")
    until(lambda: _answers(tmp_path), "a new server")
    _use(pool, tmp_path)
    ids += _push(pool, tmp_path, 50)
    _check(pool, ids)
    assert pool.stop() == 0, pool.log()


def _answers(folder: Path) -> bool:
    try:
        return bool(client(target(f"embedded:{folder / 'data'}"), timeout_s=1).ping())
    except RedisError:
        return False
