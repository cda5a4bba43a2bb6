"""Durations as people write them."""

from __future__ import annotations

import contextlib
import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.streams.durations import seconds


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("500ms", 0.5), ("30s", 30), ("15m", 900), ("1h", 3600), ("7d", 604_800), ("2w", 1_209_600),
        ("1.5h", 5400), (" 10 s ", 10), ("90", 90), (0.25, 0.25), (3, 3), (timedelta(minutes=2), 120),
    ],
)  # fmt: skip
def test_durations_have_one_unit(words: Any, expected: float) -> None:
    assert seconds(words) == pytest.approx(expected)


@pytest.mark.parametrize(
    "words", ["", "h", "1y", "1h30m", "-1s", "0", "0s", "1e3", "\u0661s", 0, -1, math.inf, math.nan]
)
def test_what_is_none_is_refused(words: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(words)


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(words: str) -> None:
    with contextlib.suppress(ValueError):
        assert 0 < seconds(words) < math.inf
