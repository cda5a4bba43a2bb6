"""The README names tests and pages that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page is a file."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_every_promise_names_a_test() -> None:
    """The table of promises names scenarios that there are."""
    text = (ROOT / "README.md").read_text()
    _, _, rest = text.partition("| promise | held by `tests/faults/` |\n| --- | --- |\n")
    table = rest.partition("\n\n")[0].splitlines()
    assert len(table) >= 9
    for line in table:
        named = re.findall(r"`(test_\w+)`", line)
        assert named or "all of them" in line, line
        assert not [name for name in named if not (ROOT / "tests" / "faults" / f"{name}.py").exists()]
