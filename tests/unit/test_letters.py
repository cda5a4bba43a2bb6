"""Whose dead letters a handler gets, whatever kind of handler it is."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from rsq.worker.handler import Handler
from rsq.worker.letters import addressed
from rsq.worker.router import Gather, Route


class Letter:
    """A dead letter as a handler gets it; only what `addressed` looks at."""

    def __init__(self, number: int, group: str) -> None:
        self.id, self.marked = f"{number}-0", False
        self.letter = type("Letter", (), {"stream": "orders", "group": group})() if group else None

    def done(self) -> None:
        self.marked = True


def _narrowed(function: Any, gather: Gather | None = None) -> Route:
    (route,) = addressed(
        Handler("app:dead", (Route((), function, gather=gather),)), {("orders", "ours")}
    ).routes
    return route


def _call(route: Route, argument: Any) -> Any:
    result: Any = route.function(argument)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(("group", "seen"), [("ours", 1), ("theirs", 0), ("", 0)])
def test_one_at_a_time(group: str, seen: int, is_async: bool) -> None:
    """Letters of other groups, and entries that are none, never reach the function."""
    got: list[Any] = []

    def now(message: Any) -> str:
        got.append(message)
        return "said"

    async def later(message: Any) -> str:
        return now(message)

    route = _narrowed(later if is_async else now)
    assert route.is_async is is_async
    assert route.name.endswith("later" if is_async else "now")
    assert _call(route, Letter(1, group)) == ("said" if seen else None)
    assert len(got) == seen


@pytest.mark.parametrize("is_async", [False, True])
def test_many_at_once(is_async: bool) -> None:
    """The others of a batch are done before the function is called, and whatever it makes of its own."""
    mixed = [Letter(1, "ours"), Letter(2, "theirs"), Letter(3, ""), Letter(4, "ours")]
    got: list[list[str]] = []

    def now(messages: list[Any]) -> list[str]:
        got.append([message.id for message in messages])
        assert [message.marked for message in mixed] == [False, True, True, False]
        raise OSError("no")

    async def later(messages: list[Any]) -> list[str]:
        return now(messages)

    route = _narrowed(later if is_async else now, Gather(10, 0.0))
    assert (route.is_async, route.gathers) == (is_async, Gather(10, 0.0))
    with pytest.raises(OSError, match="no"):
        _call(route, mixed)
    assert got == [["1-0", "4-0"]]
    assert list(_call(route, [Letter(5, "theirs")])) == []
    assert got == [["1-0", "4-0"]], "called with nothing"


@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_function_of_many_yields_is_done(is_async: bool) -> None:
    def now(messages: list[Any]) -> Iterator[str]:
        yield from (message.id for message in messages)

    async def later(messages: list[Any]) -> AsyncIterator[str]:
        for message in messages:
            yield message.id

    route = _narrowed(later if is_async else now, Gather(10, 0.0))
    assert route.is_async is is_async
    assert list(_call(route, [Letter(1, "ours"), Letter(2, "theirs"), Letter(3, "ours")])) == ["1-0", "3-0"]
