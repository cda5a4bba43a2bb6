"""Handlers that end their process: with an exit code, with the code of success, with a signal."""

from __future__ import annotations

from collections.abc import Callable

from support_pool import Pool, numbers

REASONS = {10: "crash: exit 3", 20: "crash: exit 0", 30: "crash: SIGTERM", 40: "crash: SIGKILL"}


def test_each_is_charged_with_how_it_ended(make_pool: Callable[..., Pool]) -> None:
    """Also an exit with code 0 is no success, for the handler has not returned."""
    pool = make_pool("""
        def die(number):
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        def handle(message):
            started(message)
            match message.data["n"]:
                case 10: os._exit(3)
                case 20: os._exit(0)
                case 30: die(signal.SIGTERM)
                case 40: os.kill(os.getpid(), signal.SIGKILL)
            finished(message)
        """)
    ids = pool.push(numbers(60))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[n]: 3 for n in REASONS})
    letters = pool.dead()
    assert {n: letters[ids[n]].reason for n in REASONS} == REASONS
    counted = pool.counters()
    assert (counted["FAILED"], counted["RETRIED"], counted["DEAD_CRASH"]) == (12, 8, 4)
