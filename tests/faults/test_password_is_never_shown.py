"""A password in the URL, in a pool with crashes and a reload."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support_pool import Pool, numbers, until

HANDLER = """
    ledger().rpush("arguments", " ".join(sys.orig_argv))
    ledger().rpush("titles", open("/proc/self/cmdline").read())
    def handle(message):
        started(message)
        if message.data["n"] == 3 and message.attempt == 1:
            segfault()
        finished(message)
    """
PASSWORD = "correct-horse"


@pytest.mark.parametrize("way", ["option", "variable", "file"])
def test_not_in_a_log_or_a_process_list(make_pool: Callable[..., Pool], way: str) -> None:
    """Wherever it came from: no log line, no argument of any process of ours, no title, before and after."""
    pool = make_pool(HANDLER, "--log-level", "debug")
    ids = pool.push(numbers(10))
    url = pool.server.url.replace("unix://", f"unix://:{PASSWORD}@")
    at = pool.options.index("--redis")
    del pool.options[at : at + 2]
    pool.environment["LEDGER_URL"] = url
    if way == "option":
        pool.options += ["--redis", url]
    elif way == "variable":
        pool.environment["RSQ_REDIS"] = url
    else:
        (pool.folder / "url").write_text(f"{url}\n")
        pool.options += ["--redis-file", "url"]
    pool.redis.config_set("requirepass", PASSWORD)
    try:
        pool.start()
        pool.wait_finished(ids)
        seen = _command_lines(pool)
        pool.signal(signal.SIGHUP)
        pool.wait_log("reloaded: every slot runs the new code")
        ids += [pool.add({b"data": b'{"n": 0}'})]
        pool.wait_finished(ids)
        pool.wait_settled()
        seen += _command_lines(pool)
        assert pool.stop() == 0
    finally:
        pool.redis.config_set("requirepass", "")
    assert len([line for line in seen if line.startswith("rsq: ")]) >= 6, seen
    assert PASSWORD not in " ".join(seen)
    assert PASSWORD not in pool.log()
    titles, arguments = (pool.books.lrange(key, 0, -1) for key in ("titles", "arguments"))
    assert not [title for title in titles if PASSWORD.encode() in title], "while the handler is imported"
    # The start (as the user wrote it), the trial of new code, the start with new code.
    assert [PASSWORD.encode() in words for words in arguments] == [way == "option", False, False]
    pool.assert_exact(ids, restarted={ids[3]: 2})


def _command_lines(pool: Pool) -> list[str]:
    """Return what a process list shows of the master and its children, once all have their titles."""
    seen: list[str] = []

    def look() -> bool:
        lines = []
        for pid in (pool.pid, *(child.pid for child in psutil.Process(pool.pid).children(recursive=True))):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                lines.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
        seen.extend(lines)
        titles = {line.split()[1] for line in lines if line.startswith("rsq: ")}
        return titles >= {"master", "keeper", "worker"}

    until(look, "all processes, each with its title")
    return seen
