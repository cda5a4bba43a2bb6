"""SIGHUP with new code that does not import."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until
from support_servers import is_gone

from rsq.ipc.cells import PoolState

GOOD = """
    def handle(message):
        started(message)
        finished(message)
    """
ROUTER = "from rsq import Router\nhandle = Router()"
BROKEN = {
    "def handle(message)\n    pass": "SyntaxError",
    "import a_module_that_is_not_there": "No module named 'a_module_that_is_not_there'",
    "def other(message): pass": "there is no 'handle' in app",
    "def handle(message): yield": "app:handle has a yield",
    ROUTER: "app:handle has no handlers",
    f"{ROUTER}\nhandle.on('a')(id)\nhandle.on('a')(repr)": "event 'a' has two handlers",
    f"{ROUTER}\nhandle.on('a', timeout=5, soft_timeout=5)(id)": "must be shorter than",
    "os.kill(os.getpid(), 9)": "the interpreter ended with code -9",
    "os._exit(0)": "the interpreter ended with code 0 before all was checked",
    "if os.fork(): os._exit(0)\ndef handle(message): pass": "ended with code 0 before all was checked",
    "sys.exit(0)": "SystemExit: 0",
    "sys.stderr.write(('x' * 99 + chr(10)) * 5000)\n1 / 0": "ZeroDivisionError",
    "import threading\nthreading.Thread(target=time.sleep, args=(1000,), name='metrics-sender').start()\n"
    "def handle(message): pass": "app (thread metrics-sender)",
    "import subprocess\nledger().set('left', subprocess.Popen(['sleep', '60']).pid)\n"
    "raise ValueError('while a process holds our output')": "ValueError: while a process holds our output",
}


def test_the_old_code_goes_on(make_pool: Callable[..., Pool]) -> None:
    """The log says why, the master never hangs on it, and repaired code is taken; exit code 0."""
    pool = make_pool(GOOD)
    ids = pool.push(numbers(10))
    pool.start()
    pool.wait_finished(ids)
    worker = pool.worker()
    for tries, (source, words) in enumerate(BROKEN.items(), 1):
        pool.write(source)
        pool.signal(signal.SIGHUP)
        pool.wait_log("reload refused, the old code goes on: ", times=tries)
        assert words in [line for line in pool.log().splitlines() if "reload refused" in line][-1]
        until(lambda: pool.state() is PoolState.RUNNING, "the end of the trial")
    left = int(pool.books.get("left") or 0)  # what a trial has started ends with it
    until(lambda: is_gone(left), "the end of what a trial has left")
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
