"""Fixtures of the tests of commands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support_rsq import Rsq, Terminal
from support_servers import Server

from rsq.supervisor import failing
from rsq.supervisor.operate import cli


@pytest.fixture
def rsq(
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Rsq:
    """Run `rsq ARGS` on the server, in this process and without a terminal."""
    given = tmp_path / "stdin"

    def run(*args: str, stdin: bytes = b"", **settings: str) -> subprocess.CompletedProcess[str]:
        given.write_bytes(stdin)
        with monkeypatch.context() as patched, given.open() as source:
            for name in [name for name in os.environ if name.startswith("RSQ_")]:
                patched.delenv(name)
            for name, value in ({"RSQ_REDIS": server.url} | settings).items():
                patched.setenv(name, value)
            patched.setattr(sys, "stdin", source)
            code = failing.run(cli, args, name="rsq")
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(args, code, out, err)

    return run


@pytest.fixture
def terminal(server: Server) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def make(*args: str, **options: int) -> Terminal:
        made.append(Terminal(server, *args, **options))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
