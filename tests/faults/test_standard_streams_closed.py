"""A pool is started with closed standard streams, or user code replaces them by anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

HANDLER = """
    {setup}
    def handle(message):
        started(message)
        print("words")
        print("words", file=sys.stderr)
        if message.data["n"] == 3 and message.attempt == 1:
            raise ValueError("fails once")
        if message.data["n"] == 5 and message.attempt == 1:
            os._exit(3)
        finished(message)
    """


@pytest.mark.parametrize("how", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_at_start(make_pool: Callable[..., Pool], how: str) -> None:
    """Nothing that is opened later gets their numbers: the pool works, and ends in good order."""
    pool = make_pool(HANDLER.format(setup=""), "--metrics", "127.0.0.1:0")
    ids = pool.push(numbers(10))
    wrapper = ["/bin/sh", "-c", f'exec "$@" {how}', "sh"]
    pool.start("--stop-when-empty", ready=False, wrapper=wrapper)
    assert pool.wait() == 0
    pool.assert_exact(ids, restarted={ids[3]: 2, ids[5]: 2})


@pytest.mark.parametrize(
    "setup",
    [
        "sys.stdout = sys.stderr = None",
        "sys.stdout = sys.stderr = object()",
        "os.close(1); os.close(2)",
    ],
)
def test_replaced_by_user_code(make_pool: Callable[..., Pool], setup: str) -> None:
    """On import, so in the master too; whatever has no `write` fails the handler and not the pool."""
    handler = HANDLER.replace("print(", "say(").format(setup=setup)
    handler = f"""
    def say(words, file=None):
        try:
            print(words, file=file)
        except Exception:
            pass
    {handler}"""
    pool = make_pool(handler)
    ids = pool.push(numbers(10))
    assert pool.run() == 0
    pool.assert_exact(ids, restarted={ids[3]: 2, ids[5]: 2})
