"""`rsq breaker`: look at the circuit breakers of a fleet, open and close them by hand."""

from __future__ import annotations

from typing import Any

import click

from ..ipc.cells import Part
from .breakers import Shown
from .failing import Failure, tell
from .fleetcli import NOT_IN_TIME, _fleet, _print
from .options import group_options
from .printable import json_text, one_line

BREAKERS = Part.BREAKERS.name.lower()


@click.group("breaker")
def breaker() -> None:
    """Look at the circuit breakers of events, open and close them."""


@breaker.command("list")
@group_options
@click.option("--json", "as_json", is_flag=True, help="As one JSON list.")
def show(as_json: bool, stream: str, group: str, **place: Any) -> None:
    """Show the circuit breakers of a group."""
    with _fleet(stream, group, **place) as fleet:
        found = fleet.breakers.all()
    if as_json:
        click.echo(json_text([one.as_json() for one in found]))
        return
    if not found:
        click.echo("no event has a circuit breaker")
        return
    _print(_table(found))


@breaker.command("open")
@click.argument("event")
@group_options
def open_(event: str, stream: str, group: str, **place: Any) -> None:
    """Call no handler of EVENT any more, until the breaker is closed by hand."""
    _turn(event, stream, group, place, closed=False)


@breaker.command()
@click.argument("event")
@group_options
def close(event: str, stream: str, group: str, **place: Any) -> None:
    """Let handlers of EVENT be called again, from now on."""
    _turn(event, stream, group, place, closed=True)


def _turn(event: str, stream: str, group: str, place: dict[str, Any], *, closed: bool) -> None:
    with _fleet(stream, group, **place) as fleet:
        changed = (fleet.breakers.close if closed else fleet.breakers.open)(event)
        reports = {one.name: one.report.trouble for one in fleet.status().living if one.report}
    words = "closed" if closed else "open, until it is closed by hand"
    already = "" if changed else " already"
    tell(f"{one_line(stream)} / {one_line(group)}: {one_line(event)} is {words}{already}")
    deaf = [f"{name}: {trouble[BREAKERS]}" for name, trouble in reports.items() if BREAKERS in trouble]
    if deaf:
        said = one_line("; ".join(deaf), 1000)
        raise Failure(f"it stands in Redis, but not every pool can go by it: {said}", NOT_IN_TIME)


def _table(found: list[Shown]) -> Any:
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("event", "state", "opened", "what comes next"):
        made.add_column(title, justify="right" if title == "opened" else "left", no_wrap=True)
    for one in found:
        colour = {"closed": "green", "open": "red"}.get(one.state, "yellow")
        made.add_row(
            Text(one_line(one.event, 64)), Text(one.state, colour), str(one.opened), Text(one.prospect)
        )
    return made
