"""Batch handlers that raise, forget, run too long, or return what nobody can use."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

ROUTER = """
    from rsq import Reject, Retry, Router, SoftTimeout
    handle = Router()
"""


def test_what_is_not_returned_is_tried_again(make_pool: Callable[..., Pool]) -> None:
    """Each by itself: who is done is acknowledged, the others are charged, and only they."""
    pool = make_pool(
        ROUTER
        + """
    @handle.batch("audit", size=50, wait=0.1)
    def audit(messages):
        for message in messages:
            started(message)
        done = [m for m in messages if m.data["n"] != 3 and (m.data["n"] % 10 or m.attempt == 2)]
        for message in done:
            finished(message)
        return [m.id for m in done]
    """,
        "--max-attempts", "3",
    )  # fmt: skip
    ids = pool.push(numbers(30), "audit")
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[3]: 3}, restarted={ids[n]: 2 for n in (0, 10, 20)})
    letter = pool.dead()[ids[3]]
    assert (letter.reason, letter.attempts) == ("max_attempts", 3)
    assert letter.error == "NotDone: not among the entries that the batch handler says are done"
    assert pool.counters()["FAILED"] == 6


@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("error", ["ValueError('no')", "Reject('never')"])
def test_an_exception_dead_letters_nobody_but_its_cause(
    make_pool: Callable[..., Pool], error: str, attempts: int
) -> None:
    """It fails all that are not marked; who has no attempt left runs alone before it is given up."""
    pool = make_pool(
        ROUTER
        + f"""
    @handle.batch("audit", size=10, wait=0.1)
    def audit(messages):
        for message in messages:
            if message.data["n"] == 5:
                raise {error}
        for message in messages:
            finished(message)
        return messages
    """,
        "--max-attempts", str(attempts),
    )  # fmt: skip
    ids = pool.push(numbers(10), "audit")
    assert pool.run() == 0, pool.log()
    pool.assert_books(ids, dead=[ids[5]])
    assert pool.finished() == {entry: 1 for entry in ids if entry != ids[5]}
    letter = pool.dead()[ids[5]]
    assert "in audit" in letter.traceback
    if attempts == 1:
        assert letter.attempts == 1


def test_none_is_warned_about_and_acknowledges_nothing(make_pool: Callable[..., Pool]) -> None:
    """But what it has marked is done, and a handler that has marked all needs to return nothing."""
    pool = make_pool(
        ROUTER
        + """
    @handle.batch("forgets", size=10, wait=60)
    def forgets(messages):
        for message in messages:
            started(message)
            if message.data["n"] % 2:
                finished(message)
                message.done()
    @handle.batch("marks", size=10, wait=60)
    def marks(messages):
        for message in messages:
            started(message)
            finished(message)
            message.done()
    """,
        "--max-attempts", "1",
    )  # fmt: skip
    ids, marked = pool.push(numbers(10), "forgets"), pool.push(numbers(10), "marks")
    assert pool.run() == 0, pool.log()
    dead = ids[::2]
    pool.assert_books([*ids, *marked], dead=dead)
    assert pool.finished().keys() == {*ids[1::2], *marked}
    assert pool.started() == dict.fromkeys(dead, 2) | dict.fromkeys([*ids[1::2], *marked], 1)
    assert pool.log().count("forgets returned None") == 1
    assert "marks returned None" not in pool.log()


@pytest.mark.parametrize("result", ["True", "len(messages)", "messages[0].id"])
def test_a_result_that_is_no_list_fails_the_call(make_pool: Callable[..., Pool], result: str) -> None:
    pool = make_pool(
        ROUTER
        + f"""
    @handle.batch("audit", size=10, wait=0.1)
    def audit(messages):
        return {result}
    """,
        "--max-attempts", "1",
    )  # fmt: skip
    ids = pool.push(numbers(3), "audit")
    assert pool.run() == 0, pool.log()
    pool.assert_books(ids, dead=ids)
    assert all(
        "returns the ids, or the messages, that are done" in letter.error for letter in pool.dead().values()
    )


def test_words_that_mean_no_entry_are_warned_about(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(
        ROUTER
        + """
    @handle.batch("audit", size=10, wait=0.1)
    def audit(messages):
        for message in messages:
            yield "7-7"
            finished(message)
            yield message.id
    """
    )
    ids = pool.push(numbers(3), "audit")
    assert pool.run() == 0, pool.log()
    pool.assert_books(ids)
    assert pool.log().count("audit returned what is no entry of its batch: '7-7'") == 1


def test_an_entry_that_cannot_be_decoded_does_not_keep_the_others(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(
        ROUTER
        + """
    @handle.batch("audit", size=10, wait=0.1)
    def audit(messages):
        for message in messages:
            started(message)
            finished(message)
        return messages
    """
    )
    ids = pool.push(numbers(3), "audit")
    bad = pool.add({b"data": b"{", b"event": b"audit"})
    ids += pool.push(numbers(3), "audit")
    assert pool.run() == 0, pool.log()
    pool.assert_exact([*ids, bad], dead={bad: 0})
    assert pool.dead()[bad].reason == "decode_error"


@pytest.mark.parametrize("lazy", [False, True], ids=["returns", "yields"])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_the_soft_limit_is_that_of_the_call(make_pool: Callable[..., Pool], kind: str, lazy: bool) -> None:
    """Raised once inside; who marks what is done by then loses nothing."""
    wait = "await asyncio.sleep(600)" if kind == "async def" else "time.sleep(600)"
    pool = make_pool(
        ROUTER
        + f"""
    import asyncio
    @handle.batch("audit", size=10, wait=0.2, soft_timeout=2)
    {kind} audit(messages):
        for message in messages:
            started(message)
        for message in messages:
            if message.data["n"] == 5 and message.attempt == 1:
                {wait}
            finished(message)
            message.done()
            {"yield message" if lazy else ""}
    """,
        "--max-attempts", "2",
    )  # fmt: skip
    first = pool.push([{"n": -1}], "audit")
    ids = pool.push(numbers(10), "audit")
    pool.start()
    worker = pool.worker()
    pool.wait_settled()
    assert pool.worker() == worker, "the process was replaced"
    assert pool.stop() == 0
    counts = pool.started()
    assert {counts[entry] for entry in (*first, *ids[:5])} == {1}
    assert counts[ids[5]] == 2
    assert pool.finished() == dict.fromkeys([*first, *ids], 1)
    pool.assert_books([*first, *ids])


def test_done_after_the_call_is_an_error_and_marks_nothing(make_pool: Callable[..., Pool]) -> None:
    pool = make_pool(
        ROUTER
        + """
    kept = []
    @handle.batch("audit", size=5, wait=0.05)
    def audit(messages):
        for message in kept:
            try:
                message.done()
            except RuntimeError:
                ledger().incr("late")
        kept[:] = messages
        for message in messages:
            started(message)
        return [m for m in messages if m.attempt == 2]
    """
    )
    ids = pool.push(numbers(5), "audit")
    assert pool.run() == 0, pool.log()
    pool.assert_books(ids)
    assert pool.started() == dict.fromkeys(ids, 2)
    assert int(pool.books.get("late") or 0) >= 1
