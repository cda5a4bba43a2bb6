"""The unit: accepted by systemd without a word, well locked up, and of one mind with the program."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rsq.ipc import exitcodes

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT = DEPLOY / "rsq-supervisor@.service"
INSTALLED = "/opt/rsq/bin/rsq-supervisor"

# systemd counts from 0, locked up, to 10, unsafe; here in tenths. What a pool cannot do without makes 1.2:
# most of that is the network, the rest code that handlers compile, what numeric libraries call, and /proc.
# A line that gets lost weighs up to 0.4; those that weigh nothing, because another line implies them, are
# in the list below.
EXPOSURE_MAX = 13

LOCKS = """
    CapabilityBoundingSet DynamicUser KeyringMode LockPersonality NoNewPrivileges PrivateDevices PrivateTmp
    PrivateUsers ProtectClock ProtectControlGroups ProtectHome ProtectHostname ProtectKernelLogs
    ProtectKernelModules ProtectKernelTunables ProtectProc ProtectSystem RemoveIPC RestrictAddressFamilies
    RestrictNamespaces RestrictRealtime RestrictSUIDSGID SystemCallArchitectures SystemCallFilter UMask
"""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as an instance, with the program of this environment in the place of the installed one."""
    program = Path(sys.executable).with_name("rsq-supervisor")
    assert program.exists()
    text = UNIT.read_text()
    assert text.count(INSTALLED) == 1
    path = tmp_path / "rsq-supervisor@orders.service"
    path.write_text(text.replace(INSTALLED, str(program)))
    return path


def _setting(name: str) -> list[str]:
    text = UNIT.read_text().replace("\\\n", " ")
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def _analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)


@needs_systemd
def test_systemd_finds_nothing_to_complain_about(unit: Path) -> None:
    verified = _analyze("verify", "--man=no", unit)
    assert (verified.returncode, verified.stdout, verified.stderr) == (0, "", "")


@needs_systemd
def test_it_is_locked_up(unit: Path) -> None:
    scored = _analyze("security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager", unit)
    assert scored.returncode == 0, scored.stdout + scored.stderr


@pytest.mark.parametrize(
    ("credential", "arguments"),
    [
        (
            "redis://:secret@localhost/0\n",
            ["--config", "/etc/rsq/%i.toml", "--redis-file", "{folder}/redis-url"],
        ),
        ("-", ["--config", "/etc/rsq/%i.toml"]),
    ],
    ids=["with its file", "without"],
)
def test_the_file_with_the_url_is_optional(tmp_path: Path, credential: str, arguments: list[str]) -> None:
    """Run what the unit runs, as systemd would, with a program that prints what it was given."""
    (tmp_path / "redis-url").write_text(credential)
    stub = tmp_path / "program"
    stub.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\necho pid $$\n')
    stub.chmod(0o700)
    (line,) = _setting("ExecStart")
    words = [word.replace("$$", "$").replace(INSTALLED, str(stub)) for word in shlex.split(line)]
    environment = {"CREDENTIALS_DIRECTORY": str(tmp_path), "PATH": os.environ["PATH"]}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        printed, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    expected = [word.replace("{folder}", str(tmp_path)) for word in arguments]
    assert printed.splitlines() == [*expected, f"pid {process.pid}"], "the program is the main process"


def test_the_fallback_of_the_credential_is_what_the_command_looks_for() -> None:
    assert _setting("SetCredential") == ["redis-url:-"]
    assert _setting("LoadCredential") == ["redis-url:/etc/rsq/%i.redis"]
    assert " = - ] ||" in _setting("ExecStart")[0]


def test_a_wrong_configuration_is_not_started_again() -> None:
    assert _setting("RestartPreventExitStatus") == [str(exitcodes.CONFIG)]
    assert _setting("Restart") == ["always"]


def test_systemd_waits_longer_than_the_drain_takes() -> None:
    (drain_s,) = re.findall(r"^drain-timeout = (\d+)$", (DEPLOY / "example.toml").read_text(), re.MULTILINE)
    assert int(_setting("TimeoutStopSec")[0]) >= int(drain_s) + 10


def test_no_lock_is_left_out_because_another_implies_it() -> None:
    assert {name for name in LOCKS.split() if not _setting(name)} == set()


def test_every_line_that_promises_depend_on_is_there() -> None:
    wanted = {
        "Type": "notify",
        "NotifyAccess": "main",
        "KillMode": "mixed",
        "OOMPolicy": "continue",
        "RuntimeDirectory": "rsq/%i",
        "RuntimeDirectoryPreserve": "yes",
        "WatchdogSec": "30",
    }
    assert {name: _setting(name)[-1] for name in wanted} == wanted


def test_the_example_is_accepted_by_the_program(tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text("def handle(message):\n    pass\n")
    program = Path(sys.executable).with_name("rsq-supervisor")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RSQ_")}
    checked = subprocess.run(
        [program, "--config", DEPLOY / "example.toml", "--check"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "orders:handle for orders/mailer" in checked.stdout


def test_the_example_of_several_pools_is_accepted(tmp_path: Path) -> None:
    for module, name in (("orders", "handle"), ("mails", "send"), ("failures", "report")):
        (tmp_path / f"{module}.py").write_text(f"def {name}(message):\n    pass\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RSQ_")}
    checked = subprocess.run(
        [sys.executable, "-m", "rsq.supervisor.cli", "--config", DEPLOY / "pools.toml", "--check"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (checked.returncode, checked.stderr) == (0, "")
    names = [line.split(" for ")[1].split(" on ")[0] for line in checked.stdout.splitlines()]
    assert names == ["orders/shop", "mails/shop", "orders:dlq/shop"]


def test_every_setting_that_the_example_shows_exists(tmp_path: Path) -> None:
    text = (DEPLOY / "example.toml").read_text()
    uncommented = re.sub(r"^# ([a-z-]+ = )", r"\1", text, flags=re.MULTILINE)
    assert uncommented.count("\n# ") < text.count("\n# ")
    (tmp_path / "all.toml").write_text(uncommented)
    (tmp_path / "orders.py").write_text("def handle(message):\n    pass\n")
    program = Path(sys.executable).with_name("rsq-supervisor")
    checked = subprocess.run(
        [program, "--config", "all.toml", "--check"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
