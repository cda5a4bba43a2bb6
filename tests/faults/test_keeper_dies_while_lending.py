"""The keeper is stopped or killed at any instant of its lending; owner and receivers go on meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import pytest
from support_lending import OPTIONS, SOMETIMES, in_bursts, lent, stopped
from support_pool import Pool


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_every_entry_runs_once(make_pool: Callable[..., Pool], how: str) -> None:
    pool = make_pool(SOMETIMES, "--workers", "4", *OPTIONS)
    pool.start()

    def act() -> None:
        if how == "killed":
            with contextlib.suppress(ProcessLookupError):  # the next one is not there yet
                os.kill(pool.keeper(), signal.SIGKILL)
        else:
            before = len(pool.finished())
            stopped(pool.keeper(), lambda: len(pool.finished()) > before or not pool.pending())

    ids = in_bursts(pool, act)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
    assert lent(pool) or how == "killed"
