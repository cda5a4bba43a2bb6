"""The fleet board: a survey as a table for a terminal, and as a value for JSON. Pure.

On a narrow terminal the columns that matter least are left out; nothing in a row is ever wrapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..streams.fleet import BUSY, DOWN, IDLE
from ..streams.keys import dead_letter
from ..streams.orders import Order
from ..streams.pending import Pending
from ..streams.survey import Consumer, Instance, Survey
from ..worker.breaker import decode
from .breakers import Shown, shown
from .figures import short, span
from .printable import one_line
from .reading import label

_INDENT = 2
_NAME_MAX = 40


@dataclass(frozen=True, slots=True)
class FleetBoard:
    """A group on a terminal of any width."""

    survey: Survey

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield who leads, what waits, then a row per instance."""
        seen = self.survey
        yield _title(seen, ascii_only=options.ascii_only)
        for title, facts in _facts(seen):
            grid = Table(box=None, show_header=False, padding=(0, 1, 0, 0), pad_edge=False)
            grid.add_column(style="dim", width=10, no_wrap=True)
            grid.add_column(overflow="fold")
            grid.add_row(title, facts)
            yield Padding(grid, (0, 0, 0, _INDENT))
        columns = _columns(seen)
        room = options.max_width - _INDENT
        for rank in sorted((column.rank for column in columns), reverse=True):
            if _width(columns) <= room or rank == 0:
                break
            columns = [column for column in columns if column.rank != rank]
        if not seen.instances and not seen.foreign:
            return
        yield Text("")
        table = Table(
            box=box.SIMPLE, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False, border_style="dim"
        )
        for column in columns:
            table.add_column(
                column.title, justify="left" if column.left else "right", no_wrap=True, header_style="dim"
            )
        for row in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*row)
        yield Padding(table, (0, 0, 1, _INDENT), expand=False)


def _title(seen: Survey, *, ascii_only: bool) -> Text:
    colour, words = "green", f"{many(len(seen.living), 'instance')}"
    if seen.length is None:
        colour, words = "red", "there is no such stream"
    elif not seen.exists:
        colour, words = "red", "there is no such group"
    elif not seen.living:
        colour, words = "red", "no living instance"
    elif seen.pause:
        colour, words = "yellow", f"paused, {words}"
    return Text.assemble(
        ("* " if ascii_only else "● ", colour),
        (f"{label(seen.stream)} / {label(seen.group)}", "bold"),
        "  ",
        (words, colour),
    )


def _facts(seen: Survey) -> list[tuple[str, Text]]:
    facts = []
    if seen.pause:
        facts.append(("paused", Text(told(seen.pause, seen.now_ms), "yellow")))
    if seen.leader:
        left = "for ever" if seen.leader.left_ms is None else f"for {span(seen.leader.left_ms / 1000)} more"
        words = f"{one_line(seen.leader.holder, _NAME_MAX)}, epoch {seen.leader.epoch}, {left}"
        facts.append(("leader", Text(words)))
    else:
        facts.append(("leader", Text(f"none; the last epoch was {seen.epoch}", "red")))
    if seen.exists:
        facts.append(("unread", _unread(seen)))
        facts.append(("pending", _pending(seen)))
    words = short(seen.dead_letters)
    if seen.dead_letters:
        hint = f"rsq dlq list --stream {one_line(seen.stream, _NAME_MAX)}"
        hint += "" if seen.dlq == dead_letter(seen.stream) else f" --dlq {one_line(seen.dlq, _NAME_MAX)}"
        words += f" in {one_line(seen.dlq, _NAME_MAX)}: {hint}"
    facts.append(("dead", Text(words, "red" if seen.dead_letters else "dim")))
    swept = [f"{label(name)} {short(count)}" for name, count in seen.swept.items() if count]
    for one in breakers_of(seen):
        if one.state != "closed":
            words = f"{one_line(one.event, _NAME_MAX)} is {one.state}, {one.prospect}"
            facts.append(("breaker", Text(words, "yellow")))
    facts.append(("swept", Text(", ".join(swept) or "nothing yet", "" if swept else "dim")))
    return facts


def breakers_of(seen: Survey) -> list[Shown]:
    """Return the circuit breakers of the group's events, by name."""
    return [shown(event, decode(raw), seen.now_ms) for event, raw in sorted(seen.breakers.items())]


def lag(seen: Survey) -> str:
    """Return how many entries are unread, in words."""
    return short(seen.lag) if seen.lag_known else f">={short(seen.lag)}"


def _unread(seen: Survey) -> Text:
    words = f"lag {lag(seen)}"
    if seen.unread and seen.unread_ms is not None:
        words += f", the oldest is {seen.unread}, {span(seen.unread_ms / 1000)} old"
    return Text(words, "" if seen.unread else "dim")


def _pending(seen: Survey) -> Text:
    words = short(seen.pending)
    if seen.oldest and seen.oldest_ms is not None:
        words += f", the oldest is {seen.oldest.id}, {span(seen.oldest_ms / 1000)} old, {state(seen.oldest)}"
        words += (
            f" by {one_line(seen.oldest.consumer, _NAME_MAX)}"
            if seen.oldest.state == "held" and seen.oldest.consumer
            else ""
        )
    return Text(words, "" if seen.pending else "dim")


def state(row: Pending) -> str:
    """Return what is being done with a pending entry, in words: its idle time may be a mark."""
    if not row.consumer:  # after XNACK
        return "no owner"
    since = span(row.untouched_ms / 1000)
    return {"held": f"held, touched {since} ago", "resting": f"rests for {since}"}.get(
        row.state, f"suspect for {since}"
    )


def tried(row: Pending) -> int | None:
    """Return the attempts of a pending entry; None where XNACK FATAL has set a counter that says nothing."""
    return row.attempts if row.attempts < 2**53 else None


def told(order: Order, now_ms: int) -> str:
    """Return whose order it is, since when and why."""
    since = f" {span(max(0.0, now_ms / 1000 - order.at))} ago" if order.at > 0 else ""
    return f"by {one_line(order.by, 60)}{since}" + (
        f": {one_line(order.reason, 200)}" if order.reason else ""
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """A column, and how soon it is left out: the higher the sooner, 0 never."""

    title: str
    rank: int
    cells: tuple[Text, ...]
    left: bool = False


def _width(columns: list[_Column]) -> int:
    widths = [max(cell.cell_len for cell in (*column.cells, Text(column.title))) for column in columns]
    return sum(widths) + 2 * (len(widths) - 1)


def _columns(seen: Survey) -> list[_Column]:
    rows = [_row(seen, instance) for instance in seen.instances]
    if seen.foreign:
        rows.append(_foreign_row(seen.foreign))
    titles = (
        ("instance", 0, True), ("host", 5, True), ("pid", 8, False), ("state", 1, True), ("lease", 4, False),
        ("idle", 6, False), ("busy", 2, False), ("down", 7, False), ("pending", 3, False),
        ("version", 9, True),
    )  # fmt: skip
    cells = list(zip(*rows, strict=True)) or [()] * len(titles)
    return [
        _Column(title, rank, tuple(column), left)
        for (title, rank, left), column in zip(titles, cells, strict=True)
    ]


def _row(seen: Survey, instance: Instance) -> tuple[Text, ...]:
    said, nothing = instance.report, Text("-", "dim")
    mark = " (leader)" if seen.leader and seen.leader.is_of(instance.name) else ""
    dim = "" if instance.alive else "dim"
    slots = [
        Text(str(count), colour if count else "dim") if said and instance.alive else nothing
        for count, colour in (
            (instance.slots(IDLE), ""), (instance.slots(BUSY), "green"), (instance.slots(DOWN), "red")
        )
    ]  # fmt: skip
    return (
        Text(one_line(instance.name, _NAME_MAX) + mark, dim),
        Text(one_line(said.host, _NAME_MAX), dim) if said else nothing,
        Text(str(said.pid), "dim") if said else nothing,
        _instance_state(seen, instance),
        nothing if instance.lease_ms is None else Text(span(instance.lease_ms / 1000)),
        *slots,
        Text(short(instance.pending), ("" if instance.alive else "red") if instance.pending else "dim"),
        Text(one_line(said.version, 20), "dim") if said else nothing,
    )


def _instance_state(seen: Survey, instance: Instance) -> Text:
    if not instance.alive:
        since = f" {span(max(0.0, seen.now_ms / 1000 - instance.report.beat))}" if instance.report else ""
        return Text(f"gone{since}", "red" if instance.pending else "dim")
    if instance.drain:
        return Text("draining", "yellow")
    # Where nobody has said otherwise, or has left it to the pool again, there is nothing to tell.
    return Text(f"alive, {instance.size} by hand" if instance.size else "alive", "green")


def _foreign_row(foreign: list[Consumer]) -> tuple[Text, ...]:
    nothing = Text("", "dim")
    pending = sum(one.pending for one in foreign)
    return (
        Text(f"{many(len(foreign), 'other consumer')}", "dim"), nothing, nothing, Text("foreign", "dim"),
        nothing, nothing, nothing, nothing, Text(short(pending), "yellow" if pending else "dim"), nothing,
    )  # fmt: skip


def many(count: int, what: str) -> str:
    """Return how many of something, in words."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def as_json(seen: Survey) -> dict[str, Any]:
    """Return a survey as a value for JSON: exact numbers, times in seconds, names as text that is safe."""
    return {
        "stream": label(seen.stream),
        "group": label(seen.group),
        "stream_exists": seen.length is not None,
        "group_exists": seen.exists,
        "length": seen.length,
        "lag": seen.lag,
        "lag_known": seen.lag_known,
        "pending": seen.pending,
        "last_delivered": seen.last_delivered,
        "oldest_unread": None if seen.unread is None else {"id": seen.unread, "age_s": _s(seen.unread_ms)},
        "oldest_pending": None if seen.oldest is None else entry_json(seen.oldest, seen.now_ms),
        "untouched_s": None if seen.untouched is None else _s(seen.untouched.untouched_ms),
        "dlq": label(seen.dlq),
        "dead_letters": seen.dead_letters,
        "leader": None
        if seen.leader is None
        else {
            "holder": label(seen.leader.holder),
            "epoch": seen.leader.epoch,
            "left_s": _s(seen.leader.left_ms),
        },
        "epoch": seen.epoch,
        "paused": _order_json(seen.pause),
        "swept": {label(name): count for name, count in seen.swept.items()},
        "breakers": [one.as_json() for one in breakers_of(seen)],
        "instances": [_instance_json(seen, instance) for instance in seen.instances],
        "consumers": [
            {
                "name": label(one.name),
                "pending": one.pending,
                "idle_s": _s(one.idle_ms),
                "instance": None if one.instance is None else label(one.instance),
                "slot": one.slot,
            }
            for one in seen.consumers
        ],
    }


def entry_json(row: Pending, now_ms: int) -> dict[str, Any]:
    """Return a pending entry as a value for JSON."""
    return {
        "id": row.id,
        "age_s": _s(max(0, now_ms - row.created_ms)),
        "consumer": label(row.consumer),
        "state": row.state if row.consumer else "no owner",
        "untouched_s": _s(row.untouched_ms) if row.consumer else None,
        "attempts": tried(row),
    }


def _instance_json(seen: Survey, instance: Instance) -> dict[str, Any]:
    said = instance.report
    return {
        "name": label(instance.name),
        "alive": instance.alive,
        "leader": seen.leader is not None and seen.leader.is_of(instance.name),
        "lease_left_s": _s(instance.lease_ms),
        "host": label(said.host) if said else None,
        "pid": said.pid if said else None,
        "version": label(said.version) if said else None,
        "started": said.started if said else None,
        "last_report": said.beat if said else None,
        "lease_s": said.lease_s if said else None,
        "slots": {str(slot): label(doing) for slot, doing in said.slots.items()} if said else {},
        "pending": instance.pending,
        "drain": _order_json(instance.drain),
        "workers_ordered": instance.size,
    }


def _order_json(order: Order | None) -> dict[str, Any] | None:
    return None if order is None else {"by": label(order.by), "at": order.at, "reason": label(order.reason)}


def _s(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
