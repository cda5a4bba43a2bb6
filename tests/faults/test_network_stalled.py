"""The network passes nothing on; connections stay open, new ones are made and never answered."""

from __future__ import annotations

from collections.abc import Callable

from support_outage import HANDLER, OPTIONS, goes_on, goes_on_after_restart, in_the_middle, stops_in_time
from support_pool import Pool, until
from support_proxy import Proxy


def test_a_waiting_line_does_not_stay_deaf(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """A read that is overdue ends its line; the next one works as soon as the network does."""
    pool = make_far_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    pool.release("go")
    pool.wait_finished(ids)
    pool.wait_settled()
    proxy.stall()
    pool.wait_log("consumer test:0: no reply in time")
    more = pool.push([{"n": n} for n in range(100, 110)])
    pool.wait_log("no answer in time: is the server overloaded")
    assert pool.started().keys() == set(ids)
    proxy.heal()
    pool.wait_finished(more)
    goes_on(pool, ids + more)
    assert pool.counters()["RECONNECTS"] == 1


def test_what_was_on_its_way_does_not_arrive_late(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """The old connection's read gets through only after the worker has looked for what it may have brought.

    Entries that the server gave to it then would be pending for a worker that does not know of them.
    """
    pool = make_far_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    looks = _looks(pool)
    proxy.stall()
    pool.release("go")  # what is finished is acknowledged into the stall, with a read behind it
    pool.wait_log("consumer test:0: no reply in time")
    proxy.heal(old=False)
    pool.wait_finished(ids)
    pool.wait_settled()
    until(lambda: _looks(pool) >= looks + 2 * 3, "two looks at the pending list, of three owners each")
    pool.books.delete("go")
    busy = pool.push([{"n": 20}])
    pool.wait_started(busy[0])
    ids += busy + pool.push([{"n": n} for n in range(100, 110)])
    until(lambda: proxy.given_up, "the end of the old connection, at the worker's side")
    proxy.heal()
    until(lambda: not proxy.given_up, "its end at the server's side")
    pool.release("go")
    goes_on(pool, ids)


def _looks(pool: Pool) -> int:
    calls = pool.redis.info("commandstats").get("cmdstat_xpending", {"calls": 0})["calls"]
    return int(calls)


def test_finished_entries_are_acked_on_return(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """The stall lasts until the line and the first try of another one have been given up."""
    pool = make_far_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    proxy.stall()
    pool.release("go")
    pool.wait_log("no answer in time: is the server overloaded")
    assert not pool.is_connected()
    proxy.heal()
    goes_on(pool, ids)


def test_a_stall_that_ends_in_time_costs_nothing(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """The line is kept and its replies count."""
    pool = make_far_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    proxy.stall()
    pool.release("go")
    pool.wait_finished(ids[:21])
    proxy.heal()
    goes_on(pool, ids)
    assert pool.counters()["RECONNECTS"] == 0


def test_a_drain_ends_in_time(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """The worker waits for a reply when it is told: no longer than a few seconds more."""
    pool = make_far_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    proxy.stall()
    pool.release("go")
    pool.wait_finished(ids[:21])
    stops_in_time(pool)
    proxy.heal()
    until(lambda: proxy.connections == 0, "the end of the old connections")
    goes_on_after_restart(pool, ids)


def test_a_drain_ends_in_time_while_connecting(make_far_pool: Callable[..., Pool], proxy: Proxy) -> None:
    """The worker is in the middle of a try that nobody answers."""
    pool = make_far_pool(HANDLER, *OPTIONS)
    ids = in_the_middle(pool)
    proxy.stall()
    proxy.cut()
    pool.release("go")
    pool.wait_log("no answer in time")
    stops_in_time(pool)
    proxy.heal()
    goes_on_after_restart(pool, ids)


def test_a_drain_ends_in_time_while_a_letter_is_written(
    make_far_pool: Callable[..., Pool], proxy: Proxy
) -> None:
    """The answer to it is not waited for as long as usual; the next pool writes it, once."""
    pool = make_far_pool(
        """
        def handle(message):
            started(message)
            if message.data["n"] == 20:
                wait_for("go")
                raise Reject("never")
            finished(message)
        """,
        *OPTIONS, "--drain-timeout", "12",
    )  # fmt: skip
    ids = in_the_middle(pool)
    proxy.stall()
    pool.release("go")
    pool.wait_log("never")
    stops_in_time(pool)
    proxy.heal()
    goes_on_after_restart(pool, ids, dead={ids[20]: 1})
