"""Handlers that were written for another signature, and what becomes of what they fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

HANDLERS = {
    "data and message, with a boolean result": """
        from rsq import adapters
        @adapters.bool_result
        @adapters.data_and_message
        def handle(data, message):
            started(message)
            if data["n"] == 3 and message.attempt < 3:
                return False
            finished(message)
            return True
        """,
    "the same as a coroutine, in a router": """
        from rsq import Router, adapters
        handle = Router()
        @handle.default
        @adapters.bool_result
        @adapters.data_and_message
        async def other(data, message):
            started(message)
            if data["n"] == 3 and message.attempt < 3:
                return False
            finished(message)
        """,
    "a list of messages": """
        from rsq import adapters
        @adapters.message_list(size=5, wait=0.1)
        async def handle(messages):
            done = []
            for message in messages:
                started(message)
                if message.data["n"] != 3 or message.attempt == 3:
                    finished(message)
                    done.append(message.id)
            return done
        """,
    "a list of messages, in a router": """
        from rsq import Router, adapters
        handle = Router()
        @handle.default
        @adapters.message_list
        def many(messages):
            for message in messages:
                started(message)
                if message.data["n"] != 3 or message.attempt == 3:
                    finished(message)
                    yield message.id
        """,
}


@pytest.mark.parametrize("kind", HANDLERS)
def test_what_is_not_done_is_tried_again(make_pool: Callable[..., Pool], kind: str) -> None:
    pool = make_pool(HANDLERS[kind])
    ids = pool.push(numbers(12))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, restarted={ids[3]: 3})
    assert pool.counters()["FAILED"] == 2
