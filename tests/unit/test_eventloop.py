"""Async handlers: where the soft limit arrives, and what becomes of tasks that they leave."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from rsq import SoftTimeout
from rsq.worker import eventloop
from rsq.worker.eventloop import EventLoop, limited

TIDY: list[str] = []


async def _sleeps() -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        TIDY.append("cancelled")
        raise


async def _directly() -> None:
    await _sleeps()


async def _in_a_gather() -> None:
    await asyncio.gather(_sleeps(), _sleeps())


async def _in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_sleeps())
        group.create_task(_sleeps())


async def _in_the_body_of_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_sleeps())
        await asyncio.sleep(60)


async def _in_a_wait_for() -> None:
    await asyncio.wait_for(_sleeps(), 30)


async def _in_a_timeout() -> None:
    async with asyncio.timeout(30):
        await _sleeps()


async def _in_a_task_that_swallows_it() -> None:
    async def swallows() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            TIDY.append("cancelled")

    await asyncio.create_task(swallows())


WAYS = [
    (_directly, 1),
    (_in_a_gather, 2),
    (_in_a_group, 2),
    (_in_a_wait_for, 1),
    (_in_a_timeout, 1),
    (_in_a_task_that_swallows_it, 1),
]


@pytest.mark.parametrize(("waits", "cancelled"), WAYS, ids=lambda way: getattr(way, "__name__", ""))
def test_the_soft_limit_can_be_caught(waits: Any, cancelled: int) -> None:
    """By the handler, wherever it waits; what it waits for is cancelled, and it may await more then."""
    TIDY.clear()

    async def handle(_message: object) -> str:
        try:
            await waits()
        except SoftTimeout as error:
            await asyncio.sleep(0.01)
            task = asyncio.current_task()
            assert task is not None
            assert not task.cancelling()
            return f"tidied up: {error}"
        return "never"

    loop = EventLoop()
    assert loop.run(limited(handle, 0.05)(1), 1) == "tidied up: ran longer than 0.05 s"
    assert ["cancelled"] * cancelled == TIDY
    loop.close()


@pytest.mark.parametrize("waits", [_sleeps, _in_the_body_of_a_group], ids=lambda waits: waits.__name__)
def test_who_does_not_catch_it_fails_with_it(waits: Any) -> None:
    """Not with a relative of it, and whoever tidies up after a cancellation does so."""
    TIDY.clear()

    async def handle(_message: object) -> None:
        await waits()

    loop = EventLoop()
    with pytest.raises(SoftTimeout, match=r"ran longer than 0\.01 s") as caught:
        loop.run(limited(handle, 0.01)(1), 1)
    assert type(caught.value) is SoftTimeout
    assert TIDY == ["cancelled"]
    loop.close()


def test_who_goes_on_is_told_again() -> None:
    async def handle(_message: object) -> int:
        told = 0
        while told < 3:
            try:
                await asyncio.sleep(60)
            except SoftTimeout:
                told += 1
        return told

    loop = EventLoop()
    assert loop.run(limited(handle, 0.01)(1), 1) == 3
    loop.close()


def test_who_is_quick_never_hears_of_it() -> None:
    """Results and errors pass, those of a cancellation that is none of ours too."""

    async def handle(message: Any) -> Any:
        if message == "cancelled":
            raise asyncio.CancelledError
        if message == "awaits a failure":
            await asyncio.create_task(handle("fails"))
        if message == "fails":
            raise KeyError(message)
        return await asyncio.sleep(0, message)

    loop, call = EventLoop(), limited(handle, 60)
    assert loop.run(call("result"), 1) == "result"
    for message, error in (
        ("fails", KeyError),
        ("awaits a failure", KeyError),
        ("cancelled", asyncio.CancelledError),
    ):
        with pytest.raises(error):
            loop.run(call(message), 1)
    loop.close()


def test_tasks_that_are_left_are_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With entry and number, once a minute; what is cancelled in the end, too. Hooks may leave some."""
    clock = [1000.0]
    monkeypatch.setattr(eventloop, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    kept: list[asyncio.Task[None]] = []

    async def later() -> None:
        await asyncio.sleep(60)

    async def leave(number: int) -> None:
        kept.extend(asyncio.create_task(later()) for _ in range(number))
        await asyncio.sleep(0)

    loop = EventLoop()
    loop.run(leave(1))
    loop.run(leave(0), SimpleNamespace(id="0-1"))
    assert not caplog.messages
    loop.run(leave(2), SimpleNamespace(id="1-0"))
    loop.run(leave(3), SimpleNamespace(id="2-0"))
    clock[0] += 61
    loop.run(leave(1), [SimpleNamespace(id="3-0"), SimpleNamespace(id="4-0")])
    first, second = caplog.messages
    assert first.startswith("entry 1-0: its handler has returned and left tasks behind: 2 (")
    assert ".later" in first
    assert second.startswith("entry 3-0: its handler has returned and left tasks behind: 1 (")
    assert "4 since this was last told" in second
    loop.close()
    assert caplog.messages[-1].startswith("tasks that handlers had left behind are cancelled: 6 (")
    assert all(task.cancelled() for task in kept)
