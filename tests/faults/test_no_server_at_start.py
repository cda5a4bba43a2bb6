"""Redis is not there when the pool starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_pool import Pool, numbers
from support_servers import Server

pytestmark = pytest.mark.every_server


def test_the_pool_waits_and_begins_by_itself(own_server: Server, tmp_path: Path) -> None:
    """Not ready, one clear line, no exit; then everything is handled."""
    pool = Pool(own_server, tmp_path, """
        def handle(message):
            started(message)
            finished(message)
        """, "--workers", "2")  # fmt: skip
    try:
        own_server.stop()
        pool.start(ready=False)
        pool.wait_log("waiting for it")
        pool.wait_log("trying again")
        assert "ready: " not in pool.log()
        own_server.start()
        pool.wait_log("ready: ")
        pool.redis = pool.books = own_server.client()
        ids = pool.push(numbers(10))
        pool.wait_finished(ids)
        pool.wait_settled()
        assert pool.stop() == 0
        pool.assert_exact(ids)
    finally:
        pool.discard()
