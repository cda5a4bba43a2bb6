"""A handler that closes standard output and standard error, on both levels."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers


@pytest.mark.parametrize("close", ["os.closerange(0, 3)", "sys.stdout.close(); sys.stderr.close()"])
def test_worker_goes_on_without_a_log(make_pool: Callable[..., Pool], close: str) -> None:
    """It handles what follows, failures too, in the same process, and ends in good order."""
    pool = make_pool(f"""
        def handle(message):
            started(message)
            if message.data["n"] == 5:
                print("words", end="")
                {close}
            if message.data["n"] == 10 and message.attempt == 1:
                raise ValueError("fails once")
            finished(message)
        """)
    ids = pool.push(numbers(30))
    pool.start()
    worker = pool.worker()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted={ids[10]: 2})
    assert "died" not in pool.log()
