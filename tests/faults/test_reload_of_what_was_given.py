"""SIGHUP after user code, or a deploy, has changed what the program was started with."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support_pool import PREAMBLE, Pool, numbers, until
from support_several import Several

VERSION = """
def handle(message):
    started(message)
    ledger().hset("versions", message.id, "{version}")
    finished(message)
"""
ASTRAY = """
os.chdir("/")
for name in [name for name in os.environ if name.startswith("RSQ_")]:
    del os.environ[name]
os.environ["RSQ_STREAM"] = "elsewhere"
sys.argv[:] = sys.orig_argv[:] = ["lost"]
"""


TWO = """
    handler = "app:handle"
    [[pool]]
    stream = "a"
    [[pool]]
    stream = "b"
    """


def _release(folder: Path, version: str) -> None:
    """Make a release, and let `current` lead to it."""
    made = folder / version
    made.mkdir()
    (made / "app.py").write_text(PREAMBLE + VERSION.format(version=version))
    new = folder / "new"
    new.symlink_to(version)
    new.rename(folder / "current")


def _start(pool: Pool | Several, folder: Path) -> None:
    """Start it in `current`, as a shell does that was told to go there."""
    pool.folder, pool.environment["PWD"] = folder / "current", str(folder / "current")
    pool.start(ready=False)
    pool.log_path = pool.log_path.resolve()


def test_a_symbolic_link_is_followed_anew(make_pool: Callable[..., Pool]) -> None:
    """To the release that it leads to by then; the log says which code that is."""
    pool = make_pool("")
    folder = pool.folder
    _release(folder, "v1")
    ids = pool.push(numbers(5))
    _start(pool, folder)
    pool.wait_log("ready: ")
    pool.wait_finished(ids)
    assert f"runs app:handle of {folder.resolve()}/v1/app.py, in {folder}/current, by rsq-sup" in pool.log()
    _release(folder, "v2")
    pool.signal(signal.SIGHUP)
    pool.wait_log(f"reloaded: every slot runs the new code: app:handle of {folder.resolve()}/v2/app.py")
    more = pool.push(numbers(5))
    pool.wait_finished(more)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact([*ids, *more])
    assert {pool.books.hget("versions", entry) for entry in ids} == {b"v1"}
    assert {pool.books.hget("versions", entry) for entry in more} == {b"v2"}


@pytest.mark.parametrize("preload", ["--preload", "--no-preload"])
def test_user_code_that_goes_elsewhere(make_pool: Callable[..., Pool], preload: str) -> None:
    """It changes the directory, the environment and the arguments of its process: reloads do not care."""
    pool = make_pool("", preload)
    for number in range(2):  # the URL and the stream come from the environment
        at = pool.options.index(("--redis", "--instance")[number])
        name, value = pool.options[at : at + 2]
        del pool.options[at : at + 2]
        pool.environment[f"RSQ_{name[2:].upper()}"] = value
    runtime = pool.options.index("--runtime-dir") + 1
    pool.options[runtime] = "run"
    ids: list[str] = []
    for version in ("v1", "v2", "v3"):
        pool.module.write_text(PREAMBLE + ASTRAY + VERSION.format(version=version))
        if version == "v1":
            pool.start()
        else:
            pool.signal(signal.SIGHUP)
            pool.wait_log("reloaded: every slot runs the new code", times=int(version[1]) - 1)
        more = pool.push(numbers(5))
        pool.wait_finished(more)
        assert {pool.books.hget("versions", entry) for entry in more} == {version.encode()}
        ids += more
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_another_server_is_refused(make_pool: Callable[..., Pool]) -> None:
    """Its entries would be in another place. Another password is none."""
    pool = make_pool(f"{VERSION.format(version='v1')}".replace("\n", "\n    "))
    url = pool.folder / "url"
    at = pool.options.index("--redis")
    good = pool.options[at + 1]
    url.write_text(good)
    pool.options[at : at + 2] = ["--redis-file", str(url)]
    ids = pool.push(numbers(5))
    pool.start()
    pool.wait_finished(ids)
    url.write_text("redis://:s3cret@localhost:1/5")
    pool.signal(signal.SIGHUP)
    pool.wait_log("reload refused, the old code goes on: ")
    assert "the server changed from" in pool.log()
    assert "to localhost:1/5: that needs a restart" in pool.log()
    assert "s3cret" not in pool.log()
    url.write_text(f"{good}{'&' if '?' in good else '?'}protocol=2")
    pool.signal(signal.SIGHUP)
    pool.wait_log("reloaded: every slot runs the new code")
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_masters_under_a_root(make_several: Callable[..., Several]) -> None:
    """Their successors too begin in the directory that the root was given, by its path."""
    pools = make_several(TWO)
    folder = pools.folder
    _release(folder, "v1")
    _start(pools, folder)
    pools.wait_log("ready: 2 pools")
    _release(folder, "v2")
    master = pools.master("a")
    os.kill(master, signal.SIGKILL)
    pools.wait_log(f"runs app:handle of {folder.resolve()}/v2/app.py")
    until(lambda: pools.master("a") != master and pools.booted("a") == 2, "a new master")
    pools.signal(signal.SIGHUP)
    pools.wait_log("reload done: 2 of 2 pools run")
    pools.wait_log(f"b/workers: reloaded: every slot runs the new code: app:handle of {folder.resolve()}/v2")
    assert pools.stop() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="shows the signal masks of processes")
def test_nobody_inherits_blocked_signals(make_several: Callable[..., Several]) -> None:
    """Neither what a handler's module starts while it is imported, nor what a worker starts."""
    masks = """
import subprocess
def mask():
    found = subprocess.run(["grep", "SigBlk", "/proc/self/status"], capture_output=True, check=True)
    ledger().rpush("masks", found.stdout)
mask()
worker_start(mask)
"""
    pools = make_several(TWO, masks + VERSION.format(version="v1"))
    pools.start(ready=2)
    pools.signal(signal.SIGHUP)
    pools.wait_log("reload done: 2 of 2 pools run")
    assert pools.stop() == 0
    found = pools.redis.lrange("masks", 0, -1)
    assert len(found) >= 5
    assert set(found) == {b"SigBlk:\t0000000000000000\n"}
