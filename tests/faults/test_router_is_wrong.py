"""Routers that cannot be right: one line, exit code 78, and nothing is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

HANDLERS = """
    from rsq import Router
    def work(message):
        started(message)
        finished(message)
    empty, twice, arguments, limits, late = Router(), Router(), Router(), Router(), Router()
    twice.on("a")(work)
    twice.on("b", "a")(lambda message: None)
    arguments.on("a")(lambda data, message: None)
    limits.on("a", timeout=5, soft_timeout=5)(work)
    late.on("a", timeout=5)(work)
    handle = Router()
    handle.default(work)
    """
WRONG: dict[tuple[str, ...], str] = {
    ("app:empty",): "app:empty has no handlers",
    ("app:twice",): "app:twice: event 'a' has two handlers, work and <lambda>",
    ("app:arguments",): "<lambda>, handler of 'a', must take one argument, the message",
    ("app:limits",): "work: its soft_timeout, 5 s, must be shorter than its timeout, 5 s",
    ("--soft-timeout", "7", "app:late"): "work: its soft_timeout, 7 s, must be shorter than its timeout, 5 s",
}


@pytest.mark.parametrize("options", [(), ("--check",), ("--no-preload",), ("--no-preload", "--check")])
def test_one_line_says_what(make_pool: Callable[..., Pool], options: tuple[str, ...]) -> None:
    pool = make_pool(HANDLERS)
    ids = pool.push(numbers(3))
    for words, said in WRONG.items():
        code, output = pool.say(*options, *words)
        assert code == 78, (words, output)
        assert said in output
        assert "Traceback" not in output
        lines = output.splitlines()
        assert len(lines) == 1 or options == ("--no-preload",), output
        assert len([line for line in lines if said in line]) == 1, output
    assert pool.redis.xinfo_groups("events") == []
    assert pool.run(*(option for option in options if option != "--check")) == 0
    pool.assert_exact(ids)
