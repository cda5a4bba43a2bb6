"""kill -9 of a worker whose handlers have returned, before it is remembered what was handled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool

HANDLER = """
    def handle(message):
        started(message)
        if message.key == "killer":
            wait_for("go")
            os.kill(os.getpid(), signal.SIGKILL)
        finished(message)
    """
MESSAGES = 40


def add(pool: Pool, key: str) -> str:
    return pool.add({b"data": b"{}", b"key": key.encode()})


def marks(pool: Pool) -> set[bytes]:
    return {name.rpartition(b":")[2] for name in pool.redis.scan_iter(match="rsq:{events}:workers:once:*")}


@pytest.mark.parametrize("before", [0, 3])
def test_the_successor_leaves_the_mark(make_pool: Callable[..., Pool], before: int) -> None:
    """It does so before it goes on: the copies behind the entry that killed are not handled.

    Arguments:
        before: copies that the killed worker has told apart.
    """
    pool = make_pool(HANDLER, "--once", "1h", "--max-attempts", "1", "--batch-ms", "60000")
    firsts = [add(pool, f"k{n}") for n in range(MESSAGES)]
    copies = [add(pool, f"k{MESSAGES - 1 - n}") for n in range(before)]
    killer = add(pool, "killer")
    copies += [add(pool, f"k{n}") for n in range(MESSAGES)]
    pool.start()
    pool.wait_started(killer)
    assert len(marks(pool)) < MESSAGES, "all is acknowledged: nothing is tested"
    pool.release("go")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([*firsts, killer, *copies], dead={killer: 1}, duplicates=copies)
    assert marks(pool) == {f"k{n}".encode() for n in range(MESSAGES)}
