"""Handlers that were written for another signature, and what becomes of what they fail."""

from __future__ import annotations

import json
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


# The adapters, and how a function is written for each; {kind} is `def` or `async def`.
ADAPTERS = {
    "data_only": """
        {kind} work(data):
            note("started", data)
            if data["n"] == 3 and tries(data) < 3:
                raise ValueError("not yet")
            note("finished", data)
        """,
    "data_and_message": """
        {kind} work(data, message):
            started(message)
            if data["n"] == 3 and message.attempt < 3:
                raise ValueError("not yet")
            finished(message)
        """,
    "bool_result": """
        {kind} work(message):
            started(message)
            if message.data["n"] == 3 and message.attempt < 3:
                return False
            finished(message)
            return True
        """,
    "message_list(size=4, wait=0.1)": """
        {kind} work(messages):
            for message in messages:
                started(message)
            done = [message for message in messages if message.data["n"] != 3 or message.attempt == 3]
            for message in done:
                finished(message)
            return [message.id for message in done]
        """,
}
NOTES = """
        def note(what, data):
            ledger().hincrby("ledger:" + what, data["id"], 1)
        def tries(data):
            return int(ledger().hget("ledger:started", data["id"]))
"""


def push(pool: Pool, event: str, first: int) -> list[str]:
    """Add entries whose data has their ids, which some handlers know nothing else of."""
    ids = [f"{first + at}-0" for at in range(8)]
    for at, entry in enumerate(ids):
        data = json.dumps({"n": at, "id": entry})
        pool.redis.xadd("events", {"data": data, "event": event}, id=entry)
    return ids


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_each_adapter_takes_plain_and_async_functions(
    make_pool: Callable[..., Pool], adapter: str, kind: str
) -> None:
    work = ADAPTERS[adapter].replace("{kind}", kind)
    pool = make_pool(
        f"{NOTES}        from rsq import adapters{work}\n        handle = adapters.{adapter}(work)\n"
    )
    ids = push(pool, "e", 1)
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, restarted={ids[3]: 3})
    assert pool.counters()["FAILED"] == 2


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_all_of_them_in_one_router(make_pool: Callable[..., Pool], kind: str) -> None:
    source = f"{NOTES}        from rsq import Router, adapters\n        handle = Router()"
    for at, (adapter, work) in enumerate(ADAPTERS.items()):
        source += (
            work.replace("{kind}", kind).rstrip() + f"\n        handle.on('e{at}')(adapters.{adapter}(work))"
        )
    pool = make_pool(source)
    every = [push(pool, f"e{at}", 1 + 10 * at) for at in range(len(ADAPTERS))]
    assert pool.run() == 0, pool.log()
    pool.assert_exact([entry for ids in every for entry in ids], restarted={ids[3]: 3 for ids in every})
    assert pool.counters()["FAILED"] == 2 * len(ADAPTERS)


@pytest.mark.parametrize("kind", HANDLERS)
def test_what_is_not_done_is_tried_again(make_pool: Callable[..., Pool], kind: str) -> None:
    pool = make_pool(HANDLERS[kind])
    ids = pool.push(numbers(12))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, restarted={ids[3]: 3})
    assert pool.counters()["FAILED"] == 2
