"""SIGHUP with new code that does not import."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from support_pool import Pool, numbers

from rsq.ipc.cells import PoolState

GOOD = """
    def handle(message):
        started(message)
        finished(message)
    """
THREADED = """
import threading, time
threading.Thread(target=time.sleep, args=(1000,), name="metrics-sender").start()
def handle(message): pass
"""
NOISY = "import sys\nfor _ in range(5000): sys.stderr.write('x' * 99 + chr(10))\n1 / 0"
LEAVING = "import subprocess\nsubprocess.Popen(['sleep', '60'])\nraise ValueError('after that')"
BROKEN = {
    "syntax error": ("def handle(message)\n    pass", "SyntaxError"),
    "import error": ("import a_module_that_is_not_there", "No module named 'a_module_that_is_not_there'"),
    "no handler": ("def other(message): pass", "there is no 'handle' in app"),
    "its process dies": ("import os; os.kill(os.getpid(), 9)", "the interpreter ended with code -9"),
    "starts a thread": (THREADED, "importing the handler started threads (metrics-sender)"),
    "leaves a process that holds its output": (LEAVING, "ValueError: after that"),
    "says a lot": (NOISY, "ZeroDivisionError"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_the_old_code_goes_on(make_pool: Callable[..., Pool], fault: str) -> None:
    """The log says why; workers and exit code are as if nothing had been asked; repaired code is taken."""
    pool = make_pool(GOOD)
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_finished(ids)
    worker = pool.worker()
    source, words = BROKEN[fault]
    pool.module.write_text(source)
    pool.signal(signal.SIGHUP)
    pool.wait_log("reload refused, the old code goes on: ")
    (line,) = [line for line in pool.log().splitlines() if "reload refused" in line]
    assert words in line
    pool.wait_state(PoolState.RUNNING)
    ids += pool.push(numbers(10))
    pool.wait_finished(ids)
    assert pool.worker() == worker
    pool.write(GOOD)
    pool.signal(signal.SIGHUP)
    pool.wait_log("reloaded: every slot runs the new code")
    ids += pool.push(numbers(10))
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)
