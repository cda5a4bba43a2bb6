"""Processes that a worker has started and keeps: a process pool, a manager, a shell."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import psutil
from support_pool import Pool, numbers, until
from support_servers import is_gone

HANDLER = """
    import atexit, multiprocessing, subprocess
    from concurrent.futures import ProcessPoolExecutor
    CONTEXT = multiprocessing.get_context("fork")
    atexit.register(lambda: ledger().rpush("exits", os.getpid()))

    @worker_start
    def begin():
        global pool, manager, shell
        pool = ProcessPoolExecutor(2, CONTEXT)
        manager = CONTEXT.Manager()
        shell = subprocess.Popen(["sleep", "10000"])

    def handle(message):
        started(message)
        list(pool.map(abs, [-1, 2]))
        ledger().rpush("children", manager._process.pid, shell.pid, *pool._processes)
        finished(message)
    """


def children(pool: Pool) -> list[int]:
    """Return the pids of all that the workers have started."""
    return [int(pid) for pid in pool.books.lrange("children", 0, -1)]


def test_they_end_with_it(make_pool: Callable[..., Pool]) -> None:
    """In order at a reload and at a stop: exit functions run, once in each worker."""
    pool = make_pool(HANDLER)
    ids = pool.push(numbers(1))
    pool.start()
    first = pool.worker()
    pool.wait_finished(ids)
    old = children(pool)
    assert len(old) == 4
    pool.signal(signal.SIGHUP)
    second = pool.wait_successor(first)
    until(lambda: all(map(is_gone, old)), "the end of what the old worker had started")
    ids += pool.push(numbers(1))
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    assert [pid for pid in children(pool) if not is_gone(pid)] == []
    assert [int(pid) for pid in pool.books.lrange("exits", 0, -1)] == [first, second]
    pool.assert_exact(ids)


def test_they_end_when_it_is_killed(make_pool: Callable[..., Pool]) -> None:
    """By the master: they have no parent that could. They look like nobody's worker all the time."""
    pool = make_pool(HANDLER)
    ids = pool.push(numbers(1))
    pool.start()
    first = pool.worker()
    pool.wait_finished(ids)
    old = children(pool)
    assert [title for title in map(title_of, old) if "rsq: worker" in title] == []
    assert any(title.startswith("rsq: child of test:0") for title in map(title_of, old))
    pool.wait_successor(pool.kill_worker())
    until(lambda: all(map(is_gone, old)), "the end of what the killed worker had started")
    assert not is_gone(pool.pid)
    assert first != pool.worker()
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_what_the_import_has_started_lives_on(make_pool: Callable[..., Pool]) -> None:
    """It is the master's, and all workers use it; so is a folder that is removed at the end of a program."""
    pool = make_pool("""
        import subprocess, tempfile
        folder = tempfile.TemporaryDirectory()
        shell = subprocess.Popen(["sleep", "10000"])
        ledger().set("shell", shell.pid)

        def handle(message):
            started(message)
            assert os.path.isdir(folder.name)
            finished(message)
        """, "--max-messages", "1", "--batch-max", "1", "--max-attempts", "1")  # fmt: skip
    pool.start()
    shell = int(pool.books.get("shell") or 0)
    try:
        ids = []
        for _ in range(3):
            worker = pool.worker()
            ids += pool.push(numbers(1))
            pool.wait_finished(ids)
            pool.wait_successor(worker)
        pool.wait_successor(pool.kill_worker())
        assert not is_gone(shell)
        pool.wait_settled()
        assert pool.stop() == 0
        pool.assert_exact(ids)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(shell, signal.SIGKILL)


def title_of(pid: int) -> str:
    """Return how a process looks in a list of processes."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(psutil.Process(pid).cmdline())
    return ""
