"""Durations as people write them: `500ms`, `30s`, `15m`, `1h`, `7d`, or seconds as a number."""

from __future__ import annotations

import re
from datetime import timedelta

from .bounds import number, shown

Duration = str | float | timedelta
_LONGEST_S = 10.0**12  # in milliseconds it is still a number for the server

_UNITS_S = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_WORDS = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)\s*(ms|s|m|h|d|w|)", re.ASCII)


def seconds(duration: Duration) -> float:
    """Return a duration in seconds.

    Arguments:
        duration: a number with one unit (ms, s, m, h, d, w; without one seconds), a number of seconds, or a
            timedelta.

    Raises:
        ValueError: it is none of these, or not more than nothing.
    """
    if isinstance(duration, timedelta):
        found = duration.total_seconds()
    elif isinstance(duration, str):
        words = _WORDS.fullmatch(duration.strip())
        if words is None:
            raise ValueError(f"{duration!r} is no duration: write for example 500ms, 30s, 15m, 1h or 7d")
        found = float(words[1]) * _UNITS_S[words[2]]
    else:
        try:
            found = number(duration, -_LONGEST_S, _LONGEST_S)
        except ValueError as error:
            raise ValueError(f"{shown(duration)} is no duration: {error}") from None
    if not 0 < found <= _LONGEST_S:
        raise ValueError(f"a duration must be more than nothing and have an end, unlike {shown(duration)}")
    return found
