"""Handlers that raise what usually ends a program: SystemExit in its forms, KeyboardInterrupt."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

HANDLE = """
def handle(message):
    started(message)
    match message.data["n"]:
        case 10: sys.exit(3)
        case 20: sys.exit()
        case 30: raise SystemExit("words")
        case 40: raise KeyboardInterrupt
        case 50: raise GeneratorExit
    finished(message)
"""
CULPRITS = (10, 20, 30, 40, 50)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_it_is_a_failure_like_any_other(make_pool: Callable[..., Pool], kind: str) -> None:
    """The worker goes on in the same process; the entries are tried again and dead-lettered."""
    pool = make_pool(HANDLE.replace("def", kind))
    ids = pool.push(numbers(60))
    pool.start()
    worker = pool.worker()
    pool.wait_finished(ids[n] for n in range(60) if n not in CULPRITS)
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    pool.assert_exact(ids, dead={ids[n]: 3 for n in CULPRITS})
    letters = pool.dead()
    assert {letters[ids[n]].reason for n in CULPRITS} == {"max_attempts"}
    assert letters[ids[10]].error == "SystemExit: 3"
    assert letters[ids[40]].error == "KeyboardInterrupt"
