"""Adapters: handlers of another signature are called as they are used to, and seen as ours."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from rsq.streams.entry import Message
from rsq.worker.adapters import bool_result, data_and_message, data_only, message_list
from rsq.worker.handler import Handler
from rsq.worker.router import Route
from rsq.worker.signature import HandlerError, check, is_async
from rsq.worker.verdict import Retry

MESSAGE = Message([b"1-0", [b"data", b'{"n": 1}']], {"n": 1})


def run(function: Any) -> Any:
    """Call a handler as the worker does."""
    check(function, "handle")
    route = Route((), function)
    handler = Handler("handle", (route,))
    try:
        return handler.callable(route, 0.0)(MESSAGE)
    finally:
        handler.stop()


def test_data_only() -> None:
    assert run(data_only(lambda data: data["n"])) == 1


def test_data_and_message() -> None:
    assert run(data_and_message(lambda data, message: (data["n"], message.id))) == (1, "1-0")


@pytest.mark.parametrize("result", [True, None, 0, "", []])
def test_only_false_is_a_failure(result: Any) -> None:
    assert run(bool_result(lambda _message: result)) == result


def test_false_is_tried_again() -> None:
    with pytest.raises(Retry, match="returned False"):
        run(bool_result(lambda _message: False))


def test_coroutine_functions_stay_what_they_are() -> None:
    @bool_result
    @data_only
    async def handle(data: dict[str, int]) -> bool:
        return data["n"] > 1

    assert is_async(handle)
    with pytest.raises(Retry):
        run(handle)

    @data_and_message
    async def both(data: dict[str, int], message: Message) -> tuple[int, str]:
        return data["n"], message.id

    assert run(both) == (1, "1-0")


def test_they_keep_the_name_and_not_the_signature() -> None:
    @data_and_message
    def handle(data: Any, message: Message) -> None:
        """Words."""

    assert (handle.__name__, handle.__doc__) == ("handle", "Words.")
    assert len(inspect.signature(handle).parameters) == 1


@pytest.mark.parametrize("adapter", [data_only, data_and_message, bool_result])
def test_what_cannot_be_adapted_is_refused(adapter: Any) -> None:
    def lazy(*_arguments: Any) -> Iterator[int]:
        yield 1

    async def lazy_too(*_arguments: Any) -> AsyncIterator[int]:
        yield 1

    for function in (lazy, lazy_too):
        with pytest.raises(HandlerError, match=f"{function.__name__} has a yield"):
            adapter(function)
    with pytest.raises(HandlerError, match="no other adapter goes above message_list"):
        adapter(message_list(lambda messages: messages))
    with pytest.raises(HandlerError, match="takes one message, by its adapter"):
        check(message_list(adapter(lambda *_arguments: None)), "handle", many=True)
    check(message_list(lazy), "handle", many=True)


@pytest.mark.parametrize("adapter", [data_only, data_and_message, bool_result])
def test_plain_and_async_functions_are_adapted_alike(adapter: Any) -> None:
    def now(*arguments: Any) -> list[Any]:
        return [getattr(one, "id", one) for one in arguments]

    async def later(*arguments: Any) -> list[Any]:
        return now(*arguments)

    assert is_async(adapter(later))
    assert not is_async(adapter(now))
    assert run(adapter(later)) == run(adapter(now)) != []


def test_an_error_is_the_functions_own() -> None:
    with pytest.raises(KeyError, match="total"):
        run(data_only(lambda data: data["total"]))
