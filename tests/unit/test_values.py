"""The tables of docs/messages.md: what a handler gets for what was pushed. Each cell is tried."""

from __future__ import annotations

import enum
import re
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from rsq.streams import serializers

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
REFUSALS = (TypeError, ValueError, OverflowError)

Point = namedtuple("Point", "x y")  # noqa: PYI024 - as people have it


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    SMALL = 1


class Text(str):
    __slots__ = ()


@dataclass
class Order:
    id: int
    _note: float


def deep(levels: int) -> list[Any]:
    """Lists in each other."""
    made: list[Any] = []
    for _ in range(levels - 1):
        made = [made]
    return made


def value_of(cell: str) -> Any:
    """Evaluate the code in a cell of our own page."""
    code = re.search(r"`(.*?)`", cell)
    assert code is not None, cell
    return eval(code[1])


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of the table whose first column has this heading."""
    lines = PAGE.read_text().splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    yield [cell.strip() for cell in lines[start].strip("|").split("|")]
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def shown(value: Any) -> str:
    """Tell values apart that are equal: 1, 1.0 and True, 0.0 and -0.0; and NaN is as NaN."""
    return f"{type(value)} {value!r}"


(_, *FORMATS), *PUSHED = rows("pushed by `Producer`")
CELLS = [(row[0], name, cell) for row in PUSHED for name, cell in zip(FORMATS, row[1:], strict=True)]


@pytest.mark.parametrize(("pushed", "name", "cell"), CELLS)
def test_pushed(pushed: str, name: str, cell: str) -> None:
    value = value_of(pushed)
    codec = serializers.load(name, allow_pickle=True)
    if cell == "refused":
        with pytest.raises(REFUSALS) as caught:
            codec.encode(value)
        assert str(caught.value)
        return
    data = codec.encode(value)
    if cell == "decode error":
        with pytest.raises(REFUSALS):
            serializers.quick(codec)(data)
        return
    found = codec.decode(data)
    assert shown(found) == shown(value if cell == "same" else value_of(cell))


@pytest.mark.parametrize(("text", "cell"), list(rows("text"))[1:])
def test_text(text: str, cell: str) -> None:
    codec = serializers.load("json")
    data = text.strip("`").encode()
    if cell == "decode error":
        with pytest.raises(ValueError):
            codec.decode(data)
        return
    assert shown(codec.decode(data)) == shown(value_of(cell))


def test_the_tables_are_read() -> None:
    assert FORMATS == ["json", "msgpack", "pickle"]
    assert len(CELLS) > 100
    names = [UTC, date, datetime, time, timedelta, Decimal, Fraction, inf, nan, UUID, ZoneInfo]
    assert all(name is not None for name in names)  # what the cells speak of
