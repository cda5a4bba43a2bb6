"""The pool as process 1 of a PID namespace, as in a container without an init."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support_pool import Pool, numbers, until

UNSHARE = [shutil.which("unshare") or "unshare", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL"]


def _can_unshare() -> bool:
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not _can_unshare(), reason="PID namespaces cannot be made here")


def test_strangers_are_reaped_and_term_drains(make_pool: Callable[..., Pool]) -> None:
    """Orphaned grandchildren become children of process 1: they leave no zombie and halt nobody."""
    pool = make_pool("""
        def handle(message):
            started(message)
            if os.fork() == 0:
                if os.fork() == 0:
                    os._exit(7)      # an orphan with an exit code of its own
                os._exit(0)
            os.wait()
            finished(message)
        """)
    ids = pool.push(numbers(20))
    pool.start(ready=False, wrapper=UNSHARE)
    pool.wait_log("ready: ")
    pool.wait_finished(ids)
    pool.wait_settled()
    (master,) = psutil.Process(pool.pid).children()
    assert _pid_inside(master.pid) == 1
    until(lambda: not _zombies(master), "no zombie")
    os.kill(master.pid, signal.SIGTERM)
    assert pool.wait() == 0
    pool.assert_exact(ids)


def test_waiting_for_its_name_it_can_be_ended(make_pool: Callable[..., Pool]) -> None:
    """Process 1 is only ended by signals that it handles: also before there is a pool."""
    first = make_pool("def handle(message): pass")
    first.start()
    second = make_pool("def handle(message): pass")
    second.runtime = first.runtime
    second.options += ["--runtime-dir", str(first.runtime)]
    second.start(ready=False, wrapper=UNSHARE)
    second.wait_log("already runs on this host")
    (master,) = psutil.Process(second.pid).children()
    os.kill(master.pid, signal.SIGTERM)
    assert second.wait() == 0
    assert first.stop() == 0


def _pid_inside(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("NSpid:")]
    return int(line.split()[-1])


def _zombies(parent: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in parent.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # reaped meanwhile
            if child.status() == psutil.STATUS_ZOMBIE:
                found.append(child)
    return found
