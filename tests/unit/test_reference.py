"""The configuration reference is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from rsq.supervisor.reference import markdown

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    """After a change of an option, `make docs` has to be run."""
    assert PAGE.read_text() == markdown()


def test_every_setting_has_three_names() -> None:
    """Option, variable and key of one setting are the same words."""
    rows = [line for line in markdown().splitlines() if line.startswith("| `--")]
    assert len(rows) > 25
    for row in rows:
        option = row.replace("`", " ").split()[1]
        (variable,) = re.findall(r"\| `(RSQ_\w+)` \|", row)
        assert variable == "RSQ_" + option[2:].upper().replace("-", "_")
