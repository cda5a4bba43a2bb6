"""What a program was given: how to start it again, and from where."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rsq.supervisor import given
from rsq.supervisor.given import command_line, working_directory


@pytest.fixture
def python(tmp_path: Path) -> str:
    """The interpreter of a release that `current` leads to."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    path = tmp_path / "v1" / "python"
    path.symlink_to(sys.executable)
    return str(tmp_path / "current" / "python")


def _script(folder: Path, head: str, mode: int = 0o755) -> str:
    path = folder / "v1" / "rsq-supervisor"
    path.write_text(f"{head}\nimport sys\n")
    path.chmod(mode)
    return str(folder / "current" / "rsq-supervisor")


def test_a_script_is_started_as_a_script(python: str, tmp_path: Path) -> None:
    """The interpreter that its first line names by then need not be the one that runs now."""
    for head, before in (
        (f"#!{python}", [python]),
        (f"#!{python} -I", [python, "-I"]),
        ("#!/usr/bin/env python3", ["python3"]),
        (f'#!/bin/sh\n\'\'\'exec\' "{python}" "$0" "$@"', [python]),
    ):
        script = _script(tmp_path, head)
        found = command_line([*before, script, "--workers", "2", "app:handle"], sys.executable, "/")
        assert found == (script, ("--workers", "2", "app:handle")), head
    relative = command_line(["python3", "v1/rsq-supervisor", "x"], sys.executable, str(tmp_path))
    assert relative[0] == sys.executable  # its first line names another interpreter now


def test_whatever_else_is_started_by_the_interpreter_as_it_was_named(python: str, tmp_path: Path) -> None:
    script = _script(tmp_path, "#!/somewhere/else/python")
    for words in (["-m", "rsq.supervisor.entry", "app:handle"], [script, "app:handle"], ["-c", "pass"], []):
        assert command_line([python, *words], sys.executable, "/") == (python, tuple(words))
    assert command_line(["current/python", "x"], sys.executable, str(tmp_path)) == ("current/python", ("x",))
    # Found by $PATH, or named by somebody who need not be right.
    for name in ("python3", "/bin/sh", "/not/there/python"):
        assert command_line([name, "-m", "x"], sys.executable, "/") == (sys.executable, ("-m", "x"))
    plain = _script(tmp_path, f"#!{python}", mode=0o644)
    assert command_line([python, plain, "x"], sys.executable, "/") == (python, (plain, "x"))
    assert command_line([], sys.executable, "/") == (sys.executable, ())


def test_the_directory_is_the_path_by_which_it_was_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If that names it; another or none does not."""
    (tmp_path / "v1").mkdir()
    (tmp_path / "current").symlink_to("v1")
    monkeypatch.chdir(tmp_path / "current")
    real = str((tmp_path / "v1").resolve())
    assert working_directory({"PWD": str(tmp_path / "current")}) == str(tmp_path / "current")
    for other in ({}, {"PWD": "."}, {"PWD": "/"}, {"PWD": "/not/there"}, {"PWD": "/a\0b"}):
        assert working_directory(other) == real


def test_it_is_taken_once_and_without_what_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "_taken", [])
    monkeypatch.setenv("RSQ_INTERNAL_STATE", "{}")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("RSQ_STREAM", "orders")
    taken = given.take()
    monkeypatch.setenv("RSQ_STREAM", "elsewhere")
    assert given.take() is taken
    assert taken.environment["RSQ_STREAM"] == "orders"
    assert dict(taken.internal) == {"RSQ_INTERNAL_STATE": "{}", "NOTIFY_SOCKET": "/run/notify"}
    assert not taken.internal.keys() & taken.environment.keys()
    assert taken.environment.keys() <= os.environ.keys()
