"""The loop of a worker, where a word to end comes at the worst moment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rsq.worker import consumer as module
from rsq.worker.consumer import Consumer


def _consumer(stopping: list[str], **parts: Any) -> Any:
    """A consumer of which only these parts are there."""
    made: Any = Consumer.__new__(Consumer)
    made._desk = [0] * 64
    made._shelf = SimpleNamespace(next_due=1e12)
    made._controls = SimpleNamespace(
        stopping=stopping, watch=(), is_intruder=False, restore=lambda: None, look=lambda: None, **parts
    )
    return made


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "wait_readable", lambda *_: pytest.fail("it waits, and nothing would wake it")
    )


def test_a_word_to_end_that_is_heard_at_the_begin_of_a_turn_ends_the_turn() -> None:
    """Its byte has been read: a wait later in the turn would not be interrupted by it."""
    stopping: list[str] = []
    _consumer(stopping, glance=lambda: stopping.append("drain"))._turn()
    assert stopping == ["drain"]


def test_a_word_to_end_that_is_heard_before_a_long_wait_prevents_the_wait() -> None:
    stopping: list[str] = []
    made = _consumer(stopping)
    made._session = SimpleNamespace(send=lambda: None, settle=lambda: stopping.append("drain"))
    made._wait_for_due(0.0)
    assert stopping == ["drain"]
