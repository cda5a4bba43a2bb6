"""A dependency of two pools is down: what one of them suffers stops both, and they probe in turns."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers, until

# Once the breaker is open: `together` is how many handlers run at the same time, `most` all values it had.
HANDLER = """
    from rsq import Breaker, Router
    handle = Router()
    @handle.on("mail", breaker=Breaker(failures=3, window="1m", reset="150ms", successes=2))
    def mail(message):
        started(message)
        if ledger().exists("open"):
            together = ledger().incr("together")
            ledger().sadd("most", together)
            ledger().sadd("where", os.environ["WHERE"])
            time.sleep(0.03)
            ledger().decr("together")
        if ledger().exists("down"):
            raise ConnectionError("down")
        finished(message)
    """


def test_one_probe_at_a_time(make_pool: Callable[..., Pool]) -> None:
    options = ("--workers", "2", "--max-attempts", "500", "--backoff-base", "0.01", "--lease", "6")
    one = make_pool(HANDLER, *options, "--batch-max", "20", WHERE="one")
    other = make_pool(HANDLER, *options, "--batch-max", "20", "--instance", "other", WHERE="other")
    one.books.set("down", 1)
    one.start()
    other.start()
    mails = one.push(numbers(300), "mail")
    for pool in (one, other):
        until(lambda: bool(pool.counters()["DEFERRED"]), "deferred entries")  # noqa: B023 - called at once
        pool.wait_open("mail")  # before they are told anything, slots defer too
    # What had begun before it was known has ended.
    until(lambda: not any(pool.is_running_handler(slot) for pool in (one, other) for slot in (0, 1)), "calm")
    one.books.set("open", 1)
    until(lambda: one.books.scard("where") == 2, "probes in both", 60)
    one.books.delete("open")
    until(lambda: not int(one.books.get("together") or 0), "the end of the last probe")
    assert one.books.smembers("most") == {b"1"}, "probes ran at the same time"
    one.books.delete("down")
    one.wait_finished(mails)
    one.wait_settled()
    assert (one.stop(), other.stop()) == (0, 0)
    assert one.finished() == dict.fromkeys(mails, 1)
    counted = [pool.counters() for pool in (one, other)]
    for counter, count in (("HANDLED", 300), ("READ", 300), ("DEAD", 0)):
        assert sum(numbers[counter] for numbers in counted) == count
    assert sum(one.started().values()) == 300 + sum(numbers["FAILED"] for numbers in counted)
