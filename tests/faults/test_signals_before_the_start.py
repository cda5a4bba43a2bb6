"""Signals that reach the program while it still imports itself, or the handler's module."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support_pool import Pool, numbers, until

# In place of a module that the program imports: waits, and gives way to the real one.
SHIM = """
import os, sys, time
here = os.path.dirname(__file__)
if not os.path.exists(here + "/go"):
    open(here + "/begun", "w").close()
while not os.path.exists(here + "/go"):
    time.sleep(0.005)
sys.path.remove(here)
del sys.modules["setproctitle"]
import setproctitle
sys.modules["setproctitle"] = setproctitle
"""
HANDLER = """
    wait_for("go")
    def handle(message):
        started(message)
        finished(message)
    """


def _import_ourselves_slowly(pool: Pool) -> Path:
    shim = pool.folder / "shim"
    shim.mkdir()
    (shim / "setproctitle.py").write_text(SHIM)
    pool.environment["PYTHONPATH"] = str(shim)
    return shim


@pytest.mark.parametrize("when", ["ourselves", "the handler"])
def test_they_are_obeyed_later(make_pool: Callable[..., Pool], when: str) -> None:
    """None ends or stops the program; a worker more is there, and the code is reloaded after the start."""
    pool = make_pool(HANDLER)
    shim = _import_ourselves_slowly(pool)
    if when == "the handler":
        (shim / "go").touch()
        pool.write("    ledger().set('begun', 1)\n" + HANDLER)
    else:
        pool.release("go")
    ids = pool.push(numbers(5))
    pool.start(ready=False)
    until(lambda: (shim / "begun").exists() or pool.books.exists("begun"), "the import")
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTIN, signal.SIGTTOU):
        pool.signal(number)
        time.sleep(0)  # two of one kind that are not taken in between are one
    (shim / "go").touch()
    pool.release("go")
    pool.wait_log("reloaded: every slot runs the new code")
    assert "log file opened again" in pool.log()
    assert "one worker more" in pool.log()
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT], ids=lambda n: n.name)
def test_requests_to_end_are_obeyed_at_once(make_pool: Callable[..., Pool], number: int) -> None:
    """With exit code 0; nothing was read."""
    pool = make_pool(HANDLER)
    shim = _import_ourselves_slowly(pool)
    pool.start(ready=False)
    until((shim / "begun").exists, "the import")
    pool.signal(number)
    assert pool.wait() == 0
    assert pool.redis.keys("*") == []
