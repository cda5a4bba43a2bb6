"""SIGHUP while no fresh interpreter can be started: it is missing, or no descriptor is free."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support_pool import Pool, numbers, until
from support_several import Several

HANDLER = """
    def handle(message):
        started(message)
        finished(message)
    """


TWO = """
    [[pool]]
    stream = "a"
    [[pool]]
    stream = "b"
    """


def _environment(folder: Path) -> Path:
    """Make a virtual environment that can be taken away; return its interpreter."""
    made = folder / "venv"
    (made / "bin").mkdir(parents=True)
    shutil.copy(Path(sys.prefix, "pyvenv.cfg"), made)
    for name in ("lib", "lib64"):
        if Path(sys.prefix, name).exists():
            (made / name).symlink_to(Path(sys.prefix, name).resolve())
    python = made / "bin" / "python"
    python.symlink_to(Path(sys.executable).resolve())
    return python


def _launcher(folder: Path, python: Path) -> str:
    """Return a command that starts what follows by another interpreter."""
    path = folder / "launch"
    path.write_text(f'#!/bin/sh\nshift; exec {python} "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_a_pool_goes_on(make_pool: Callable[..., Pool]) -> None:
    """As if nobody had asked; the log says why. Once all is there again, the same request is obeyed."""
    pool = make_pool(HANDLER)
    python = _environment(pool.folder)
    ids = pool.push(numbers(5))
    pool.start(wrapper=[_launcher(pool.folder, python)])
    pool.wait_finished(ids)
    worker = pool.worker()
    python.rename(f"{python}.off")
    pool.signal(signal.SIGHUP)
    pool.wait_log("reload refused, the old code goes on: no interpreter could be started")
    Path(f"{python}.off").rename(python)
    if sys.platform == "linux":
        limits = resource.prlimit(pool.pid, resource.RLIMIT_NOFILE)
        used = {int(path.name) for path in Path(f"/proc/{pool.pid}/fd").iterdir()}
        few = min(set(range(max(used) + 2)) - used)  # there is none below
        resource.prlimit(pool.pid, resource.RLIMIT_NOFILE, (few, limits[1]))
        pool.signal(signal.SIGHUP)
        pool.wait_log("reload refused, the old code goes on: no interpreter could be started", times=2)
        assert "Too many open files" in pool.log()
        resource.prlimit(pool.pid, resource.RLIMIT_NOFILE, limits)
    ids += pool.push(numbers(5))
    pool.wait_finished(ids)
    assert pool.worker() == worker
    pool.signal(signal.SIGHUP)
    pool.wait_log("reloaded: every slot runs the new code")
    ids += pool.push(numbers(5))
    pool.wait_finished(ids)
    pool.wait_settled()
    assert pool.stop() == 0
    pool.assert_exact(ids)


def test_several_pools_go_on(make_several: Callable[..., Several], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the root nor a master ends."""
    pools = make_several(TWO)
    python = _environment(pools.folder)
    command = [_launcher(pools.folder, python), *pools.command()]
    monkeypatch.setattr(pools, "command", lambda *more: [*command, *more])
    pools.start(ready=2)
    masters = {stream: pools.master(stream) for stream in ("a", "b")}
    python.rename(f"{python}.off")
    pools.signal(signal.SIGHUP)
    pools.wait_log("reload refused, the old settings and the old code go on: no interpreter could be started")
    os.kill(masters["a"], signal.SIGHUP)
    pools.wait_log("reload refused, the old code goes on: no interpreter could be started")
    Path(f"{python}.off").rename(python)
    pools.signal(signal.SIGHUP)
    pools.wait_log("reload done: 2 of 2 pools run")
    assert {stream: pools.master(stream) for stream in ("a", "b")} == masters
    assert pools.stop() == 0


def test_a_new_program_that_cannot_take_over_tries_again(make_pool: Callable[..., Pool]) -> None:
    """Its settings were broken right after the trial: the worker goes on, and so does the pool in the end."""
    pool = make_pool(HANDLER)
    config = pool.folder / "pool.toml"
    config.write_text("")
    pool.options += ["--config", str(config)]
    # The last thing that a trial of new code does is to import it.
    breaks = f"if os.path.exists('break'): open({str(config)!r}, 'w').write('wrong = 1')"
    ids = pool.push(numbers(5))
    pool.start()
    pool.wait_finished(ids)
    worker = pool.worker()
    pool.module.write_text(f"{pool.module.read_text()}\n{breaks}\n")
    (pool.folder / "break").touch()
    pool.signal(signal.SIGHUP)
    pool.wait_log("before it could take over: it tries again")
    ids += pool.push(numbers(5))
    pool.wait_finished(ids)
    assert pool.worker() == worker
    (pool.folder / "break").unlink()
    config.write_text("")
    pool.wait_log("reloaded: every slot runs the new code")
    ids += pool.push(numbers(5))
    pool.wait_finished(ids)
    pool.wait_settled()
    until(lambda: pool.counters()["HANDLED"] == len(ids), "all counted")
    assert pool.stop() == 0
    pool.assert_exact(ids)
