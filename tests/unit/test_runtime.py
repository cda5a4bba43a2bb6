"""The runtime directory: the right one, and never one that somebody else can write to."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from rsq.supervisor import runtime
from rsq.supervisor.runtime import runtime_dir, runtime_dirs


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(runtime, "_SHM", tmp_path / "shm")
    monkeypatch.setattr(runtime, "_SERVICES", tmp_path / "services")
    (tmp_path / "shm").mkdir()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_the_operator_says_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "unit"))
    wanted = tmp_path / "a" / "b"
    assert runtime_dir(str(wanted)) == wanted
    assert _mode(wanted) == 0o700
    assert runtime_dir(str(wanted)) == wanted, "it may be there"


def test_a_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert runtime_dir("~/run") == tmp_path / "run"


def test_then_systemds_first_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/one:{tmp_path}/two")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_dir(None) == tmp_path / "one"


def test_then_the_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_dir(None) == tmp_path / "rsq"
    assert _mode(tmp_path / "rsq") == 0o700


def test_then_a_folder_of_the_user_in_shared_memory(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        mine = runtime_dir(None)
    finally:
        os.umask(before)
    assert mine == tmp_path / "shm" / f"rsq-{os.getuid()}"
    assert _mode(mine) == 0o700
    assert runtime_dir(None) == mine


def test_a_session_that_is_not_there_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "logged-out"))
    assert runtime_dir(None).parent == tmp_path / "shm"


def test_without_shared_memory_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shm").rmdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert runtime_dir(None) == tmp_path / f"rsq-{os.getuid()}"


@pytest.mark.parametrize("target", ["there", "missing"])
def test_a_link_in_the_place_of_the_users_folder_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "there").mkdir(mode=0o700)
    (tmp_path / "shm" / f"rsq-{os.getuid()}").symlink_to(tmp_path / target)
    with pytest.raises(ValueError, match=r"rsq-\d+.*choose another --runtime-dir") as refused:
        runtime_dir(None)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o1777])
def test_a_folder_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "shm" / f"rsq-{os.getuid()}"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ValueError, match=f"is open to others \\(mode {mode:04o}, 0700 is needed\\)"):
        runtime_dir(None)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a folder of somebody else")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "shm" / f"rsq-{os.getuid()}"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(ValueError, match="belongs to user 12345"):
        runtime_dir(None)


def test_a_file_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wanted in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"--runtime-dir: cannot make .*: (File exists|Not a directory)"):
            runtime_dir(str(wanted))


def test_a_directory_that_cannot_be_written_to(tmp_path: Path) -> None:
    place = tmp_path / "ro"
    place.mkdir()
    if os.geteuid():
        place.chmod(0o500)
    elif subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", place], check=False).returncode:
        pytest.skip("root can write everywhere, and mount nothing here")
    try:
        with pytest.raises(ValueError, match="ro cannot be written to; choose another --runtime-dir"):
            runtime_dir(str(place))
        with pytest.raises(ValueError, match="cannot make"):
            runtime_dir(str(place / "new"))
    finally:
        if not os.geteuid():
            subprocess.run(["umount", place], check=True)


def test_whoever_looks_looks_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}/one:{tmp_path}/two")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "services" / "orders").mkdir(parents=True)
    (tmp_path / "services" / "file").write_text("")
    assert runtime_dirs() == [
        tmp_path / "one",
        tmp_path / "two",
        tmp_path / "rsq",
        tmp_path / "shm" / f"rsq-{os.getuid()}",
        tmp_path / "services",
        tmp_path / "services" / "orders",
    ]


def test_where_a_pool_runs_is_where_one_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime_dir(None) in runtime_dirs()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert runtime_dir(None) in runtime_dirs()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "unit"))
    assert runtime_dir(None) in runtime_dirs()
