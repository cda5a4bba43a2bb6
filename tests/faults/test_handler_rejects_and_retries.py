"""Handlers that give up on an entry, now or after all attempts, in every form a handler can have."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

BODY = """
            started(message)
            match message.data["n"]:
                case 1: raise Reject("never")
                case 2: raise Retry("not yet", delay=0)
                case 3: raise Retry("not yet", delay=0.05)
                case 4 if message.attempt < 3: raise Retry
                case 5: raise Retry("not yet", delay=-1)
            finished(message)
"""
FORMS = {
    "function": f"""
        def handle(message):
{BODY}""",
    "async function": f"""
        async def handle(message):
{BODY}""",
    "instance": f"""
        class Handle:
          def __call__(self, message):
{BODY}
        handle = Handle()""",
    "async instance": f"""
        class Handle:
          async def __call__(self, message):
{BODY}
        handle = Handle()""",
}


@pytest.mark.parametrize("form", FORMS)
def test_each_gets_the_attempts_it_should(make_pool: Callable[..., Pool], form: str) -> None:
    """Rejected at the first, retried up to the limit, or ended well at the last possible attempt."""
    pool = make_pool(FORMS[form])
    ids = pool.push(numbers(20))
    assert pool.run() == 0, pool.log()
    pool.assert_exact(ids, dead={ids[1]: 1, ids[2]: 3, ids[3]: 3, ids[5]: 3}, restarted={ids[4]: 3})
    told = [(pool.dead()[ids[n]].reason, pool.dead()[ids[n]].error) for n in (1, 2, 3, 5)]
    assert told == [
        ("rejected", "Reject: never"),
        ("max_attempts", "Retry: not yet"),
        ("max_attempts", "Retry: not yet"),
        ("max_attempts", "ValueError: a delay of -1 s is not possible"),
    ]
    counted = pool.counters()
    assert (counted["DEAD_REJECTED"], counted["DEAD_MAX_ATTEMPTS"]) == (1, 3)
    assert (counted["FAILED"], counted["RETRIED"]) == (11, 8)
