"""kill -9 of a worker whose long entry others have relieved of those behind it."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_lending import LONG, OPTIONS, WAITS, behind_a_long_one, lent
from support_pool import Pool, until


def test_those_behind_it_run_once(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(WAITS, *OPTIONS)
    ids = behind_a_long_one(pool)
    for _ in range(2):
        pool.signal(signal.SIGTTIN)
    until(lambda: lent(pool), "a loan")
    pool.wait_successor(pool.kill_worker())
    pool.wait_started(ids[LONG], times=2)
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids, restarted={ids[LONG]: 2})
    assert pool.hash("attempts") == dict.fromkeys(ids, 1) | {ids[LONG]: 2}
    assert pool.counters()["FAILED"] == 1
