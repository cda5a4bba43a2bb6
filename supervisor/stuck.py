"""What pending entries look like, to people and to programs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from ..streams import keys
from ..streams.pending import Pending
from .figures import span
from .fleetboard import entry_json, state, tried
from .printable import json_text, one_line
from .reading import label

COLUMNS = ("id", "age", "owner", "instance", "state", "attempts")
Alive = Mapping[str, bool]  # by instance


def owner_alive(row: Pending, alive: Alive) -> bool | None:
    """Tell whether the owner's instance lives; None when its name is none of ours."""
    seat = keys.seat(row.consumer)
    return alive.get(seat[0]) if seat else None


def cells(row: Pending, alive: Alive, now_ms: int, width: int | None = None) -> tuple[str, ...]:
    """Return an entry in the order of COLUMNS, names cut to `width`."""
    living = owner_alive(row, alive)
    return (
        row.id,
        span(max(0, now_ms - row.created_ms) / 1000),
        one_line(row.consumer, width) or "-",
        "-" if not row.consumer else "foreign" if living is None else "alive" if living else "gone",
        state(row),
        "?" if (attempts := tried(row)) is None else str(attempts),
    )


def table(rows: Iterable[Pending], alive: Alive, now_ms: int) -> Table:
    """Return a rich table of entries; print it without cropping."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in COLUMNS:
        made.add_column(name, no_wrap=True, justify="right" if name in {"age", "attempts"} else "left")
    for row in rows:
        made.add_row(*map(Text, cells(row, alive, now_ms, 32)))
    return made


def plain(rows: Iterable[Pending], alive: Alive, now_ms: int, *, heading: bool) -> Iterator[str]:
    """Lines of tab-separated columns, for a pipe."""
    if heading:
        yield "\t".join(COLUMNS)
    for row in rows:
        yield "\t".join(cells(row, alive, now_ms))


def json_line(row: Pending, alive: Alive, now_ms: int) -> str:
    """Return an entry as JSON in one line."""
    seat = keys.seat(row.consumer)
    value: dict[str, Any] = entry_json(row, now_ms) | {
        "instance": label(seat[0]) if seat else None,
        "slot": seat[1] if seat else None,
        "alive": owner_alive(row, alive),
    }
    return json_text(value)
