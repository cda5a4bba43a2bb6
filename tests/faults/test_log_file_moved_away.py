"""The log file is renamed by a rotation; SIGUSR1 asks for a new one."""

from __future__ import annotations

import signal
from collections.abc import Callable

from support_pool import Pool, numbers, until


def test_everybody_writes_to_the_new_one(make_pool: Callable[..., Pool]) -> None:
    """Also workers, to which nobody sends a signal; the file is for its owner only."""
    pool = make_pool("""
        import logging
        def handle(message):
            started(message)
            logging.getLogger("app").warning("entry number %d", message.data["n"])
            finished(message)
        """)
    file, moved = pool.folder / "pool.log", pool.folder / "pool.log.1"
    ids = pool.push(numbers(1))
    pool.start("--log-file", str(file), ready=False)
    pool.wait_finished(ids)
    file.rename(moved)
    pool.signal(signal.SIGUSR1)
    until(file.exists, "a new log file")
    until(lambda: "log file opened again" in file.read_text(), "the master's word")
    ids += pool.push(numbers(2)[1:])
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    assert ("entry number 0" in moved.read_text(), "entry number 1" in moved.read_text()) == (True, False)
    assert ("entry number 1" in file.read_text(), "ended" in file.read_text()) == (True, True)
    assert file.stat().st_mode & 0o777 == 0o600
    assert pool.log() == ""
    pool.assert_exact(ids)
