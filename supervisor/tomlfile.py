"""The TOML file: settings for every pool, then a [[pool]] table for each when there are several."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

# What all pools under one root share: they are one process tree with one log and one port.
SHARED = ("metrics", "runtime_dir", "log_format", "log_level", "log_file", "stop_when_empty")
_EITHER = ("redis", "redis_file")  # of these the nearer one holds

Table = Mapping[str, Any]


def read(path: str, known: Collection[str]) -> tuple[Table, list[Table]]:
    """Return the settings outside of all tables, and the settings of each pool: with its own laid over those.

    Arguments:
        path: of the file.
        known: names that settings may have, with underscores.

    Raises:
        ValueError: one line about the first thing that is wrong.
    """
    try:
        values = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--config {path} cannot be read: {error}") from None
    except ValueError as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise ValueError(f"--config {path} is not TOML: {error}") from None
    tables = values.pop("pool", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"--config {path}: pools are written as [[pool]] tables")
    shared = _checked(values, known, f"--config {path}")
    pools: list[Table] = []
    for number, table in enumerate(tables, 1):
        where = f"--config {path}: [[pool]] {number}"
        own = _checked(table, known, where)
        if wrong := [key for key in SHARED if key in own]:
            key = wrong[0].replace("_", "-")
            raise ValueError(f"{where}: {key} is one for all pools: write it above the tables")
        given = {
            key: value
            for key, value in shared.items()
            if key not in _EITHER or own.keys().isdisjoint(_EITHER)
        }
        pools.append({**given, **own})
    return shared, pools


def _checked(values: Table, known: Collection[str], where: str) -> Table:
    found = {key.replace("-", "_"): value for key, value in values.items()}
    if unknown := sorted(found.keys() - known):
        raise ValueError(f"{where}: there is no setting {unknown[0]!r}")
    if several := [key for key, value in found.items() if not isinstance(value, str | int | float | bool)]:
        raise ValueError(f"{where}: {several[0]} must be a single value")
    return found
