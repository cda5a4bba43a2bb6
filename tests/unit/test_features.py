"""The page of features: every line says who has it, how it is had here, and which test holds it."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from rsq.supervisor.cli import command
from rsq.supervisor.operate import cli

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "features.md"
ORIGINS = 5
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and line.count("|") > ORIGINS and not line.startswith(("| feature", "| ---"))
]


def options(of: click.Command) -> set[str]:
    """Return the long options of a command and of those below it."""
    below = of.commands.values() if isinstance(of, click.Group) else ()
    own = {word for parameter in of.params for word in parameter.opts + parameter.secondary_opts}
    return own.union(*map(options, below))


KNOWN = options(command) | options(cli)


def test_no_feature_is_listed_twice() -> None:
    names = [row[0] for row in ROWS]
    assert len(names) > 100
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_line_is_whole_and_its_tests_exist(row: list[str]) -> None:
    _, *origins, here, held = row
    assert len(origins) == ORIGINS
    assert set(origins) <= {"yes", "part", "no"}
    assert here
    named = re.findall(r"`([\w/]+\.py)::(test_\w+)`", held)
    assert named
    assert ", ".join(f"`{file}::{test}`" for file, test in named) == held
    for file, test in named:
        assert re.search(rf"^def {test}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE), (file, test)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_it_names_of_ours_exists(row: list[str]) -> None:
    here = row[-2]
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", here)) <= KNOWN
    for page, _, anchor in (link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", here)):
        headings = re.findall(r"^#+ (.*)$", (PAGE.parent / page).read_text(), re.MULTILINE)
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, (page, anchor)


def test_types_are_there_for_checkers() -> None:
    assert (ROOT / "py.typed").exists()
