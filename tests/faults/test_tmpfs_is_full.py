"""There is no memory left for a slot on the file system of the runtime directory."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from support_mounts import mounted
from support_pool import Pool, numbers, until

from rsq.ipc.slot import SLOT_SIZE

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """


def test_at_the_start(make_pool: Callable[..., Pool]) -> None:
    """One line and exit code 73, never a SIGBUS; nothing was read; with room again it works."""
    pool = make_pool(HANDLER, "--workers", "4")
    ids = pool.push(numbers(5))
    with mounted(pool.folder / "disk", f"size={3 * SLOT_SIZE}") as disk:
        assert pool.start("--runtime-dir", str(disk), ready=False).wait() == 73
        (line,) = pool.log().splitlines()
        assert "no room for slot" in line
        assert "No space left on device" in line
        assert pool.redis.xinfo_groups("events") == []
        pool.runtime = disk
        assert pool.run("--runtime-dir", str(disk), "--workers", "1") == 0
        pool.assert_exact(ids)


def test_when_a_worker_is_added(make_pool: Callable[..., Pool]) -> None:
    """The others work on; the log says what to do; when there is room, the new worker starts."""
    pool = make_pool(HANDLER)
    with mounted(pool.folder / "disk", f"size={4 * SLOT_SIZE}") as disk:
        pool.runtime = disk
        ballast = disk / "ballast"
        pool.start("--runtime-dir", str(disk))
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 2 * SLOT_SIZE)
        ids = pool.push(numbers(5))
        pool.signal(signal.SIGTTIN)
        pool.wait_log("slot 1: no process could be started: no room for slot 1")
        pool.wait_finished(ids)
        ballast.unlink()
        until(lambda: pool.seats().keys() == {0, 1}, "a second worker")
        ids += pool.push(numbers(5))
        pool.wait_finished(ids)
        pool.wait_settled()
        assert pool.stop() == 0
        pool.assert_exact(ids)
