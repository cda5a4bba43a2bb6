"""An entry that waits for a circuit breaker is deleted from the stream: it is lost, told and counted once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers, until

from rsq import Fleet

pytestmark = pytest.mark.every_server

HANDLER = """
    from rsq import Breaker, Router
    handle = Router()
    @handle.on("mail", breaker=Breaker())
    def mail(message):
        started(message)
        finished(message)
    """


@pytest.mark.parametrize("how", ["closed", "drained"])
def test_it_is_lost(make_pool: Callable[..., Pool], how: str) -> None:
    pool = make_pool(HANDLER)
    pool.start()
    with Fleet(pool.server.url, "events", "workers") as fleet:
        until(fleet.breakers.all, "a breaker that is known")
        fleet.breakers.open("mail")
        pool.wait_log("circuit breaker of mail is open by hand")
        pool.wait_open("mail")
        mails = pool.push(numbers(5), "mail")
        until(lambda: pool.counters()["DEFERRED"] == 5, "deferred entries")
        pool.redis.xdel("events", mails[2])
        if how == "drained":
            assert pool.stop() == 0
            pool.start()
        fleet.breakers.close("mail")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(mails, lost={mails[2]: 0})
