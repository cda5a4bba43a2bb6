"""While the pool works, somebody puts something else under the name of the stream."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_outage import HANDLER, OPTIONS, at_ease, in_the_middle, stops_in_time
from support_pool import Pool

pytestmark = pytest.mark.every_server

ADVICE = "a key of that name is not a stream: choose another name or remove the key"


def test_workers_wait_until_it_is_gone(make_own_pool: Callable[..., Pool]) -> None:
    """They do not touch the key, and do not end as they would at a start; then they begin anew."""
    pool = make_own_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    with at_ease(pool):
        pool.redis.set("events", "a string")
        pool.release("go")
        pool.wait_log(ADVICE, times=2)
    assert pool.redis.get("events") == b"a string"
    pool.redis.delete("events")
    pool.wait_log("group workers of stream events was gone; created again at 0")
    more = pool.push([{"n": n} for n in range(100, 110)])
    pool.wait_finished(more)
    pool.wait_settled()
    assert pool.stop() == 0
    assert set(pool.started().values()) == {1}
    assert set(more) <= pool.started().keys() <= set(ids + more)
    assert pool.counters()["GROUPS_RECREATED"] == 1


def test_a_stream_that_comes_back_goes_on(make_own_pool: Callable[..., Pool]) -> None:
    """The key had been renamed only: acknowledgements were kept, and nothing is run twice."""
    pool = make_own_pool(HANDLER, *OPTIONS, "--workers", "2")
    ids = in_the_middle(pool)
    with at_ease(pool):
        pool.redis.eval(
            "redis.call('RENAME', KEYS[1], KEYS[2]) redis.call('SET', KEYS[1], 'x')", 2, "events", "kept"
        )
        pool.release("go")
        pool.wait_log(ADVICE, times=2)
    pool.redis.rename("kept", "events")
    ids += pool.push([{"n": n} for n in range(100, 110)])
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_a_drain_ends_in_time(make_own_pool: Callable[..., Pool]) -> None:
    """Nothing can be acknowledged to a string: it says so and ends."""
    pool = make_own_pool(HANDLER, *OPTIONS)
    in_the_middle(pool)
    pool.redis.set("events", "a string")
    pool.release("go")
    pool.wait_log(ADVICE)
    stops_in_time(pool)
