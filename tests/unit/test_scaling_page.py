"""What the page on scaling says can be computed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()


def names(count: int) -> list[str]:
    """What the page's own function returns."""
    source = next(code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def part" in code)
    space: dict[str, Any] = {}
    exec(re.sub(r"^ {3}", "", source, flags=re.MULTILINE), space)
    found: list[str] = space["partitions"]("orders", count)
    return found


@pytest.mark.parametrize("masters", [2, 3, 8])
def test_partitions_are_spread_evenly(masters: int) -> None:
    """As many on each master, and the same every time."""
    found = names(4 * masters)
    owners = [key_slot(name.encode()) * masters // 16384 for name in found]
    assert [owners.count(master) for master in range(masters)] == [4] * masters
    assert names(4 * masters) == found


def test_the_table_follows_from_the_formulas() -> None:
    """Masters, cores and bytes for 1, 10 and 100 million messages a minute."""
    rows = {row[0].strip(): row[1:] for line in PAGE.splitlines() if len(row := line.split("|")[1:-1]) == 4}
    for at, rate in enumerate((1e6 / 60, 1e7 / 60, 1e8 / 60)):
        expected = {
            "worker cores": rate * (1000 + 2.6) / 1e6 / 0.5,
            "of these for rsq itself": rate * 2.6 / 1e6 / 0.5,
            "producer cores": rate * 1.7 / 1e6 / 0.5,
            "memory for 10 minutes of backlog": rate * 600 * 115 / 1e9,
            "network to + from the masters": rate * (180 + 175) / 1e6,
            "passed on to replicas": rate * 390 / 1e6,
        }
        for what, value in expected.items():
            shown = float(rows[what][at].split()[0].replace(",", ""))
            assert shown == pytest.approx(value, rel=0.2), what
        for what, us in (("nothing kept", 2.6), ("append-only file and a replica each", 5.0)):
            assert int(rows[f"masters, {what}"][at]) == -(-rate * us / 1e6 // 0.5)
