"""A worker that dies in the middle of a batch: what was marked is done, only the culprit is charged."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from support_pool import Pool, numbers, until

HANDLER = """
    import json
    from rsq import Router
    handle = Router()
    @handle.batch("audit", size=20, wait=0.2)
    def audit(messages):
        ledger().rpush("calls", json.dumps([[m.data["n"], m.attempt] for m in messages]))
        for message in messages:
            started(message)
        for message in messages:
            harm(message)
            finished(message)
            if message.data["n"] < 5:
                message.done()
        return messages
"""
HARM = {
    "dies": ("os.kill(os.getpid(), signal.SIGKILL)", "crash: SIGKILL"),
    "hangs": ("time.sleep(600)", "timeout"),
}


def calls(pool: Pool) -> list[list[tuple[int, int]]]:
    """Return (number, attempt) of the entries of each call, in the order of calls."""
    rows: Any = pool.books.lrange("calls", 0, -1)
    return [[(n, attempt) for n, attempt in json.loads(row)] for row in rows]


@pytest.mark.parametrize("harm", HARM)
def test_the_culprit_is_found_by_running_the_suspects_one_by_one(
    make_pool: Callable[..., Pool], harm: str
) -> None:
    """An exact limit of attempts for the one that kills; all others run as attempt 1, however often."""
    what, reason = HARM[harm]
    pool = make_pool(
        f"""
    def harm(message):
        if message.data["n"] == 12:
            {what}
"""
        + HANDLER,
        "--timeout", "2", "--max-attempts", "2",
    )  # fmt: skip
    ids = pool.push(numbers(20), "audit")
    assert pool.run() == 0, pool.log()
    pool.assert_books(ids, dead=[ids[12]])
    letter = pool.dead()[ids[12]]
    assert (letter.reason, letter.attempts) == (reason, 2)
    counted = pool.counters()
    assert (counted["FAILED"], counted["RETRIED"], counted["HANDLED"]) == (2, 1, 19)
    seen = calls(pool)
    attempts = {(n, attempt) for call in seen for n, attempt in call if n != 12}
    assert attempts == {(n, 1) for n in range(20) if n != 12}, "an innocent one was charged"
    times = Counter(n for call in seen for n, _ in call)
    assert [times[n] for n in range(5)] == [1] * 5, "what was marked as done ran again"
    alone = [call[0][0] for call in seen if len(call) == 1]
    assert 12 in alone
    assert pool.finished().keys() == set(ids) - {ids[12]}


def test_who_is_killed_from_outside_charges_nobody_but_who_ran_alone(make_pool: Callable[..., Pool]) -> None:
    """The suspects run alone, all is well, and the next entries come together again."""
    pool = make_pool(
        """
    def harm(message):
        if message.data["n"] == 7 and not ledger().exists("killed"):
            wait_for("killed")
"""
        + HANDLER.replace("wait=0.2", "wait=600")  # all twenty in one call
    )
    ids = pool.push(numbers(20), "audit")
    pool.start()
    until(lambda: len(pool.finished()) == 7, "the middle of the batch")
    killed = pool.kill_worker()
    pool.wait_successor(killed)
    pool.release("killed")
    pool.wait_settled()
    more = pool.push(numbers(20), "audit")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_books([*ids, *more])
    assert pool.counters()["FAILED"] == 0
    seen = calls(pool)
    assert {attempt for call in seen for _, attempt in call} == {1}
    first = next(call for call in seen if len(call) == 20)
    alone = seen[seen.index(first) + 1 :][:15]
    assert sorted(call[0][0] for call in alone) == list(range(5, 20))
    assert all(len(call) == 1 for call in alone)
    assert max(map(len, seen[seen.index(first) + 16 :])) > 1


def test_a_batch_of_one_needs_no_search(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(
        """
    def harm(message):
        os.kill(os.getpid(), signal.SIGKILL)
"""
        + HANDLER,
        "--max-attempts", "2",
    )  # fmt: skip
    (entry,) = pool.push([{"n": 9}], "audit")
    assert pool.run() == 0, pool.log()
    pool.assert_books([entry], dead=[entry])
    assert calls(pool) == [[(9, 1)], [(9, 2)]]


def test_all_were_marked(make_pool: Callable[..., Pool]) -> None:
    """Then there is nobody to charge, and nothing runs again."""
    pool = make_pool(
        """
    from rsq import Router
    handle = Router()
    @handle.batch("audit", size=20, wait=0.2)
    def audit(messages):
        for message in messages:
            started(message)
            finished(message)
            message.done()
        os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    ids = pool.push(numbers(20), "audit")
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids)
    assert pool.counters()["FAILED"] == 0
