"""Nobody reads the log: a log driver hangs, somebody has pressed Ctrl-S, the disk is full."""

from __future__ import annotations

import contextlib
import os
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from support_pool import Pool, numbers, until

HANDLER = """
    import logging
    def handle(message):
        started(message)
        number = message.data["n"]
        if number < 150:
            raise ValueError("x" * 2000)
        if number == 160 and message.attempt == 1:
            os._exit(3)
        if number > 180:
            logging.getLogger("app").warning("y" * 20_000)
        finished(message)
    """
ENTRIES = 250  # their failures fill the pipe, their warnings the buffer of the worker


def _pipe_as_stderr(path: Path) -> list[str]:
    """Return a wrapper that gives the pool a FIFO without a reader as standard error."""
    os.mkfifo(path)
    return ["/bin/sh", "-c", 'exec "$@" 2<>"$0"', str(path)]


def _page(pool: Pool, name: str) -> tuple[int, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{pool.port()}/{name}", timeout=60) as answer:
        return answer.status, answer.read().decode()


def _dropped(pool: Pool, process: str) -> int:
    words = rf'rsq_log_lines_dropped_total\{{.*process="{process}"\}} (\d+)'
    found = re.search(words, _page(pool, "metrics")[1])
    assert found, process
    return int(found[1])


def _read(fd: int, until_words: bytes) -> bytes:
    """Return what was written up to and with the words."""
    found = bytearray()

    def more() -> bool:
        with contextlib.suppress(BlockingIOError):
            found.extend(os.read(fd, 1 << 20))
        return until_words in found

    until(more, f"{until_words!r} in the log")
    return bytes(found)


def test_the_pool_works_and_ends(make_pool: Callable[..., Pool], tmp_path: Path) -> None:
    """Workers die and are replaced, pages are answered, TERM ends it; the log says what is missing."""
    pool = make_pool(HANDLER, "--max-attempts", "1", "--metrics", "127.0.0.1:0")
    ids = pool.push(numbers(ENTRIES))
    pipe = tmp_path / "stderr"
    pool.start(ready=False, wrapper=_pipe_as_stderr(pipe))
    dead = [*range(150), 160]
    pool.wait_finished([one for number, one in enumerate(ids) if number not in dead])
    pool.wait_settled()
    assert _page(pool, "healthz")[0] == 200
    until(lambda: _dropped(pool, "worker") > 0, "the metric of dropped lines")
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    found = _read(reader, b"lines of this log were dropped").decode()
    assert "ready: 1 workers" in found
    assert "ValueError: xxx" in found
    os.close(reader)
    assert pool.stop() == 0
    pool.assert_exact(ids, dead=dict.fromkeys([*ids[:150], ids[160]], 1))


def test_a_pool_that_nobody_listens_to_ends(make_pool: Callable[..., Pool], tmp_path: Path) -> None:
    """The log is stuck to the end: TERM ends the pool all the same."""
    pool = make_pool(HANDLER, "--max-attempts", "1", "--metrics", "127.0.0.1:0")
    ids = pool.push(numbers(150))
    pool.start(ready=False, wrapper=_pipe_as_stderr(tmp_path / "stderr"))
    until(lambda: len(pool.dead()) == len(ids), "all dead letters")
    pool.wait_settled()
    assert _page(pool, "healthz")[0] == 200
    assert pool.stop() == 0
    pool.assert_exact(ids, dead=dict.fromkeys(ids, 1))


@pytest.mark.parametrize("kind", ["fifo", "full"])
def test_a_log_file_that_takes_nothing(make_pool: Callable[..., Pool], tmp_path: Path, kind: str) -> None:
    """A FIFO that nobody has opened, a disk without room: the pool starts, works and ends."""
    path = tmp_path / "log" if kind == "fifo" else Path("/dev/full")
    if kind == "fifo":
        os.mkfifo(path)
    elif not path.exists():
        pytest.skip("there is no full device")
    pool = make_pool(HANDLER, "--log-file", str(path), "--max-attempts", "1")
    ids = pool.push(numbers(170))
    assert pool.run() == 0
    pool.assert_exact(ids, dead=dict.fromkeys([*ids[:150], ids[160]], 1))
