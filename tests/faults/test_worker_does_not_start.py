"""A new worker hangs before it reads: in its worker_start hook, or in the import of the handler."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

HANGS = {
    "its worker_start hook": """
        def worker_start():
            if ledger().incr("starts") == 1:
                wait_for("never")
        """,
    "the import of its handler": """
        if ledger().incr("starts") == 1:
            wait_for("never")
        """,
}


@pytest.mark.parametrize("what", HANGS)
def test_it_is_killed_and_tried_again(make_pool: Callable[..., Pool], what: str) -> None:
    """After its limit; the log says which of them, and how long it may take."""
    pool = make_pool(
        f"""{HANGS[what]}
        def handle(message):
            started(message)
            finished(message)
        """,
        "--no-preload", "--start-timeout", "4",
    )  # fmt: skip
    ids = pool.push(numbers(3))
    pool.start(ready=False)
    pool.wait_log(f"{what} has not ended after 4 s (--start-timeout): killed")
    pool.wait_log("ready: ")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert pool.restarts().keys() == {"STUCK", "CLEAN"}


def test_a_pool_that_never_starts_ends(make_pool: Callable[..., Pool]) -> None:
    """With exit code 70, as one whose workers die before they have booted."""
    pool = make_pool(
        """
        def worker_start(): wait_for("never")
        def handle(message): pass
        """,
        "--start-timeout", "0.5",
    )  # fmt: skip
    pool.start(ready=False)
    assert pool.wait() == 70
    assert "no slot could boot" in pool.log()
