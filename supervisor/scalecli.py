"""`rsq scale`: set how many workers an instance has, or ask how many a group needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from ..ipc.exitcodes import OK
from ..streams.orders import WORKERS_MAX
from ..streams.survey import Survey
from .failing import tell
from .fleetboard import many
from .fleetcli import _await, _fleet, _timeout, _wait
from .numbertypes import Number, Whole
from .options import group_options
from .printable import json_text, one_line
from .suggesting import Suggestion

AUTO = "auto"


@click.command()
@click.argument("workers", required=False, metavar="N|auto")
@group_options
@click.option("--instance", help="Which one; needed when more than one lives.")
@click.option("--all", "everywhere", is_flag=True, help="Every living instance, N workers each.")
@_wait
@_timeout
@click.option(
    "--suggest", "ask", is_flag=True, help="Change nothing: say whether the group needs more workers."
)
@click.option(
    "--target",
    type=Number(0.1),
    envvar="RSQ_SCALE_TARGET",
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="In which the backlog should be cleared; with --suggest.",
)
@click.option("--least", type=Whole(), default=0, show_default=True, help="Fewest workers to suggest.")
@click.option("--most", type=Whole(1), help="Most workers to suggest.")
@click.option("--json", "as_json", is_flag=True, help="The suggestion as one JSON object.")
def scale(
    workers: str | None,
    instance: str | None,
    everywhere: bool,
    wait: bool,
    timeout: float,
    ask: bool,
    target: float,
    least: int,
    most: int | None,
    as_json: bool,
    stream: str,
    group: str,
    **place: Any,
) -> int:
    """Let an instance have N workers, or with auto as many as its configuration says.

    N holds until auto, over restarts too. With --suggest it prints OUT, IN or NO_SCALE and the rate for a
    scaler outside: above 1, the backlog takes longer than --target.
    """
    if ask == (workers is not None):
        raise click.UsageError("give a number of workers, or auto, or --suggest")
    with _fleet(stream, group, **place) as fleet:
        if ask:
            _say(fleet.suggest(target, least, most), as_json)
            return OK
        count = _count(workers or "")
        names = _chosen(fleet.status(), instance, everywhere=everywhere)
        ordered = fleet.scale(count, names)
        told = [one.name for one in ordered.seen.living] if names is None else names
        what = f"{many(count, 'worker')} each" if count else "as many workers as configured"
        tell(f"{', '.join(one_line(name, 60) for name in told)}: {what}")
        return _await(ordered, wait, timeout, "the workers")


def _count(words: str) -> int:
    """Return how many workers are asked for, 0 for auto."""
    if words == AUTO:
        return 0
    if not words.isascii() or not words.isdecimal() or not 1 <= int(words) <= WORKERS_MAX:
        raise click.UsageError(
            f"{one_line(words, 40)!r} is neither auto nor a number of workers from 1 to {WORKERS_MAX};"
            " to let nothing be started there is rsq pause"
        )
    return int(words)


def _chosen(seen: Survey, instance: str | None, *, everywhere: bool) -> list[str] | None:
    """Return the instances that are meant, None for all that live."""
    if everywhere and instance is not None:
        raise click.UsageError("give --instance or --all, not both")
    if instance is not None:
        return [instance]
    if len(seen.living) > 1 and not everywhere:
        alive = ", ".join(one_line(one.name, 60) for one in seen.living[:20])
        raise click.UsageError(f"which one? Give --instance or --all; alive: {alive}")
    return None


def _say(found: Suggestion, as_json: bool) -> None:
    if as_json:
        click.echo(json_text(asdict(found)))
        return
    rate = "-" if found.rate is None else f"{found.rate:.2f}"
    numbers = f"{many(found.workers, 'worker')}, {found.wanted} wanted"
    click.echo(f"{found.decision} {rate} {numbers}: {one_line(found.reason)}")
