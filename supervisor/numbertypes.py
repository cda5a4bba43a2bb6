"""Numbers on a command line, in the environment, and in a TOML file: see `streams.bounds`."""

from __future__ import annotations

from typing import Any

import click

from ..streams.bounds import COUNT_MAX, number, shown, whole


class Number(click.FloatRange):
    """A number with bounds; no NaN, and no `true` of a TOML file."""

    def __init__(self, least: float = 0, most: float = 10**9) -> None:
        """Both bounds are allowed."""
        super().__init__(least, most)
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; text is read first."""
        try:
            found = float(value) if isinstance(value, str) else value
        except ValueError:
            self.fail(f"{shown(value)} is not a valid {self.name}.", param, ctx)
        try:
            return number(found, self._least, self._most)
        except ValueError:
            self.fail(f"{shown(value)} is not in the range {self._describe_range()}.", param, ctx)


class Whole(click.IntRange):
    """A whole number with bounds; no fraction that is cut off, and no `true` of a TOML file."""

    def __init__(self, least: int = 0, most: int = COUNT_MAX) -> None:
        """Both bounds are allowed; `most` is not shown if it is only what can be held."""
        super().__init__(least, None if most == COUNT_MAX else most)
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; text is read first."""
        try:
            found = int(value) if isinstance(value, str) else value
        except ValueError:
            self.fail(f"{shown(value)} is not a valid {self.name}.", param, ctx)
        try:
            return whole(found, self._least, self._most)
        except ValueError:
            self.fail(f"{shown(value)} is not in the range {self._describe_range()}.", param, ctx)
