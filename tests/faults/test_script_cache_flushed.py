"""The server forgets all scripts, again and again, while dead letters are written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

pytestmark = pytest.mark.every_server


def test_each_letter_is_written_once(make_own_pool: Callable[..., Pool]) -> None:
    """Scripts are sent whole each time: nothing that the server may forget is relied on."""
    pool = make_own_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] % 4 == 3:
                raise Reject("never")
            finished(message)
        """,
        "--workers", "2",
    )  # fmt: skip
    pool.start()
    ids: list[str] = []
    for _ in range(5):
        pool.redis.script_flush()
        ids += pool.push(numbers(20))
        pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, dead=dict.fromkeys(ids[3::4], 1))
