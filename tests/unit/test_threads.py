"""Threads of an import: whose they are, and what is left of the watch when it is over."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_shared import child

from rsq.supervisor.threads import ThreadsRunning, Watch, patched, refuse, threads

MODULE = """
import threading
go = threading.Event()
def begin():
    thread = threading.Thread(target=go.wait, name="sender")
    thread.start()
    return thread
"""


@pytest.fixture
def sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "sends_metrics.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return "sends_metrics"


def test_a_thread_is_told_by_the_module_that_starts_it(sender: str) -> None:
    before, finders = threading.Thread.start, list(sys.meta_path)
    with Watch() as watch:
        thread = __import__(sender).begin()
    try:
        assert watch.started == {thread: sender}
        assert thread.native_id in threads()
        with pytest.raises(ThreadsRunning, match=r"a fork would break: .*sends_metrics \(thread sender\)"):
            refuse(watch)
    finally:
        sys.modules[sender].go.set()
        thread.join()
    assert threading.Thread.start is before
    assert sys.meta_path == finders


def test_what_a_library_has_put_in_its_place_stays() -> None:
    """As libraries do that trace threads; what they call in turn does nothing but start the thread."""
    real = threading.Thread.start
    try:
        with Watch() as watch:
            ours: Any = threading.Thread.start

            def traced(thread: threading.Thread) -> None:
                ours(thread)

            threading.Thread.start = traced  # type: ignore[method-assign,assignment]
        assert threading.Thread.start is traced
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        assert not watch.started
    finally:
        threading.Thread.start = real  # type: ignore[method-assign]


def test_a_process_with_one_thread_is_good() -> None:
    def work(_: object) -> None:
        with Watch() as watch:
            pass
        refuse(watch)

    with child(work) as process:
        assert process.wait() == 0


@pytest.mark.parametrize("home", ["select.poll", "time.sleep", "os.fork"])
def test_functions_that_the_pool_needs_are_looked_at(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not patched()
    replaced: Callable[..., None] = lambda *_: None  # noqa: E731
    replaced.__module__ = "greens.loop"
    monkeypatch.setattr(home, replaced)
    assert patched() == "greens"


def test_one_that_was_taken_away_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("select.poll")
    monkeypatch.setitem(sys.modules, "eventlet", time)
    assert patched() == "eventlet"
