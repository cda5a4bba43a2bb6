"""Durations, sizes, counts and rates, as people read them at a glance."""

from __future__ import annotations

_UNITS = ("", "k", "M", "G", "T", "P", "E")


def span(seconds: float) -> str:
    """Return a duration in its largest unit, with a decimal where that says something."""
    if not seconds < 1e10:
        return "ages"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    for unit, size, most in (("s", 1, 120), ("m", 60, 120), ("h", 3600, 72)):
        if seconds < most * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds / 86400:.0f}d"


def memory(size: float) -> str:
    """Return bytes in mebibytes, as the tools of the system show them."""
    return f"{size / (1 << 20):.0f}M" if size < 10 << 30 else f"{size / (1 << 30):.0f}G"


def short(number: int) -> str:
    """Return a count in at most five characters: exact below 100,000, then with a unit."""
    if number < 100_000:
        return str(number)
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g}{_UNITS[unit]}"


def rate(value: float) -> str:
    """Return entries per second."""
    return f"{value:.1f}" if 0 < value < 99.95 else short(round(value))
