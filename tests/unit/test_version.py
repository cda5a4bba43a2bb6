"""The version is said in two places: to read it from the package would take every start too long."""

from __future__ import annotations

import tomllib
from pathlib import Path

import rsq


def test_the_package_knows_its_version() -> None:
    project = tomllib.loads((Path(rsq.__file__).parent / "pyproject.toml").read_text())
    assert project["project"]["version"] == rsq.__version__
