"""The tables name tests that exist, one for each line."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_line_names_a_test() -> None:
    lines = [line for line in (HERE / "README.md").read_text().splitlines() if line.startswith("| ")]
    rows = [line for line in lines if not line.startswith(("| ---", "| what goes wrong"))]
    assert len(rows) == 30
    for row in rows:
        named = re.findall(r"`([\w./]+\.py)(?:::(test_\w+))?`", row)
        assert named, row
        for file, test in named:
            assert re.search(rf"^def {test or 'test_'}", (HERE / file).read_text(), re.MULTILINE), row
