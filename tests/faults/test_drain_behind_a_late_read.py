"""A read sent ahead is looked at only when its entries have rested, been taken again and been handled."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until
from support_proxy import Proxy

LONG = 50


def test_nothing_that_was_handled_is_counted_as_lost(
    make_far_pool: Callable[..., Pool], proxy: Proxy
) -> None:
    """The drain comes while the worker finds out, one by one, that it has nothing left to do for them.

    The line is slow, so that this takes it long.
    """
    pool = make_far_pool(
        f"""
        def handle(message):
            started(message)
            if message.data["n"] == {LONG}:
                wait_for("go")
            time.sleep(0.002)
            finished(message)
        """,
        "--lease", "12",
    )  # fmt: skip
    ids = pool.push(numbers(60))
    pool.start()
    pool.wait_started(ids[LONG])
    until(lambda: _resting(pool) > 3, "entries that the keeper has let rest")
    proxy.slow(delay_s=0.03)
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    scripts = _scripts(pool)
    until(lambda: _scripts(pool) > scripts + 1, "claims of what the late read has brought")
    assert pool.stop() == 0
    pool.assert_exact(ids)


def _resting(pool: Pool) -> int:
    return len(pool.resting())


def _scripts(pool: Pool) -> int:
    return int(pool.redis.info("commandstats")["cmdstat_eval"]["calls"])
