"""Numbers from outside: every one passes here, with bounds. NaN is in none, and neither is a truth value.

Whatever is wrong becomes a ValueError of one line, also what `float` or `repr` of the value would raise.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from numbers import Integral, Real
from typing import cast

SECONDS_MAX = 10.0**9  # of every limit and pause that somebody may ask for
TIME_MAX = 2.0**33  # Unix seconds: some hundred years from now
TIMEOUT_LEAST_S = 0.001
DELAY_MAX_S = 3653 * 86400.0  # of what is kept for one message: ten years
COUNT_MAX = 2**63 - 1  # what the server, and a cell of shared memory, can hold
_SHOWN = 40


def number(value: object, least: float, most: float) -> float:
    """Return a number as a float.

    Arguments:
        value: an int, a float, a Decimal, a Fraction, or one of another library's types that say they are
            real numbers.
        least, most: both are allowed.

    Raises:
        ValueError: it is none, NaN, or out of bounds.
    """
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise ValueError(f"{shown(value)} is no number")  # noqa: TRY004 - a setting
    try:
        found = float(value)
    except (ValueError, OverflowError):  # a signalling NaN; more than a float holds
        found = float("nan")
    if not least <= found <= most:
        raise ValueError(f"a number from {least:.15g} to {most:.15g}, not {shown(value)}")
    return found


def whole(value: object, least: int, most: int) -> int:
    """Return a whole number as an int; 2.0 is one, 2.5 is not.

    Raises:
        ValueError: it is none, or out of bounds.
    """
    integral = isinstance(value, Integral) and not isinstance(value, bool)
    if not integral and not (isinstance(value, float) and value.is_integer()):
        raise ValueError(f"{shown(value)} is no whole number")
    found = int(cast("int", value))
    if not least <= found <= most:
        raise ValueError(f"a whole number from {least} to {most}, not {shown(value)}")
    return found


def span_s(value: object, least: float, most: float) -> float:
    """Return a span of time in seconds: a timedelta, or a number of seconds; see `number`."""
    return number(value.total_seconds() if isinstance(value, timedelta) else value, least, most)


def shown(value: object) -> str:
    """Return a value as a person should see it, in a line that is not too long."""
    try:
        words = repr(value)
    except Exception:  # an int of thousands of digits, or user code
        words = f"a {type(value).__name__}"
    return words if len(words) <= _SHOWN else words[:_SHOWN] + "..."
