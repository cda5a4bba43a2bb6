"""Functions that return their work instead of doing it: refused at the start, or a failure, never done."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

REFUSED = {
    "a function with a yield": (
        """
        def handle(message):
            started(message)
            yield
        """,
        "app:handle has a yield",
    ),
    "a coroutine function with a yield, in a router": (
        """
        from rsq import Router
        handle = Router()
        @handle.on("e")
        async def work(message):
            started(message)
            yield
        """,
        "app:handle: work, handler of 'e', has a yield",
    ),
    "an adapted one": (
        """
        from rsq import adapters
        @adapters.data_only
        def handle(data):
            yield
        """,
        "handle has a yield",
    ),
    "an adapter of one message below a batch": (
        """
        from rsq import Router, adapters
        handle = Router()
        @handle.batch("e", size=3, wait=0)
        @adapters.data_only
        def work(data):
            pass
        """,
        "work, handler of 'e', takes one message, by its adapter",
    ),
    "an adapter of one message above one of many": (
        """
        from rsq import adapters
        @adapters.bool_result
        @adapters.message_list
        def handle(messages):
            return True
        """,
        "handle takes a list of messages",
    ),
}
# What no look at the function can tell.
HIDDEN = {
    "a coroutine": """
        import functools
        async def work(message):
            finished(message)
        @functools.wraps(work)
        def handle(message):
            started(message)
            return work(message)
        """,
    "a generator": """
        from rsq import Router
        def work(message):
            finished(message)
            yield
        handle = Router()
        @handle.default
        def begin(message):
            started(message)
            return work(message)
        """,
    "an async generator": """
        from rsq import adapters
        async def work(message):
            finished(message)
            yield
        @adapters.data_and_message
        def handle(data, message):
            started(message)
            return work(message)
        """,
}


@pytest.mark.parametrize("kind", REFUSED)
def test_one_line_at_the_start(make_pool: Callable[..., Pool], kind: str) -> None:
    handler, said = REFUSED[kind]
    pool = make_pool(handler)
    code, output = pool.say("--stop-when-empty", "app:handle")
    assert code == 78, output
    assert said in output
    assert len(output.splitlines()) == 1, output


@pytest.mark.parametrize("what", HIDDEN)
def test_its_entries_have_failed(make_pool: Callable[..., Pool], what: str) -> None:
    pool = make_pool(HIDDEN[what], "--max-attempts", "2")
    ids = pool.push(numbers(3))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead=dict.fromkeys(ids, 2))
    assert all(f"the handler returned {what}" in letter.error for letter in pool.dead().values())
    assert "never awaited" not in pool.log()
    assert "Traceback" not in pool.log()


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_batch_may_yield_what_is_done(make_pool: Callable[..., Pool], kind: str) -> None:
    pool = make_pool(
        f"""
        from rsq import Router
        handle = Router()
        @handle.batch("e", size=5, wait=0.1)
        {kind} work(messages):
            for message in messages:
                started(message)
                if message.data["n"] != 3 or message.attempt == 2:
                    finished(message)
                    yield message.id
        """
    )
    ids = pool.push(numbers(8), event="e")
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, restarted={ids[3]: 2})
