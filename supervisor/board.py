"""The board: a pool's view as a table for a terminal. Pure.

On a narrow terminal the columns that matter least are left out; nothing is ever wrapped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .figures import memory, rate, short, span
from .view import PoolView, SlotView

_INDENT = 2
_COLOURS = {
    "running": "green",
    "handling": "green",
    "starting": "yellow",
    "booting": "yellow",
    "backoff": "red",
    "connecting": "red",
    "draining": "yellow",
    "held": "yellow",
    "reloading": "cyan",
    "stopping": "yellow",
    "stalled": "bold red",
    "gone": "red",
}


def render(view: PoolView) -> Board:
    """Return what `rsq status` prints of a pool, for rich to print."""
    return Board(view)


def living_root(view: PoolView) -> int | None:
    """Return the pid of the root that keeps a pool, None without one and of a pool that is gone."""
    return None if view.state == "gone" else view.root


def boards(views: Sequence[PoolView]) -> Iterator[Text | Board]:
    """Yield what `rsq status` prints of some pools: those of one root below a line that says so.

    Arguments:
        views: those of one root next to each other.
    """
    for root, group in groupby(views, living_root):
        pools = list(group)
        if root:
            slots, ready = (sum(each) for each in zip(*map(_slots, pools), strict=True))
            facts = [f"{len(pools)} pools", f"{ready} of {slots} slots ready"]
            facts += [f"metrics on port {pools[0].port}"] if pools[0].port else []
            yield Text.assemble((f"root {root}", "bold"), "  ", (", ".join(facts), "dim"), "\n\n")
        yield from map(render, pools)


def _slots(view: PoolView) -> tuple[int, int]:
    """Return how many slots are wanted and how many of them are ready."""
    return view.workers, sum(slot.ready for slot in view.slots)


@dataclass(frozen=True, slots=True)
class Board:
    """A pool on a terminal of any width."""

    view: PoolView

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield lines about the pool, then a row per slot and the sums."""
        name, facts = _name(self.view, ascii_only=options.ascii_only), _facts(self.view)
        if name.cell_len + 2 + facts.cell_len <= options.max_width:
            yield Text.assemble(name, "  ", facts)
        else:
            yield name
            yield Padding(facts, (0, 0, 0, _INDENT))
        if self.view.state != "gone":
            yield Padding(_right(self.view), (0, 0, 0, _INDENT))
            for words in _breakers(self.view):
                yield Padding(Text(words, "yellow"), (0, 0, 0, _INDENT))
        columns = [_Column.of(spec, self.view) for spec in _SPECS]
        room = options.max_width - _INDENT
        gap = 2 if _width(columns, 2) <= room else 1
        for spec in sorted(_SPECS, key=lambda spec: spec.rank, reverse=True):
            if _width(columns, gap) <= room:
                break
            columns = [column for column in columns if column.spec is not spec]
        table = Table(
            box=box.SIMPLE,
            show_edge=False,
            show_footer=True,
            padding=(0, gap - 1, 0, 0),
            pad_edge=False,
            border_style="dim",
        )
        for column in columns:
            table.add_column(
                column.spec.title,
                column.foot,
                justify="left" if column.spec.left else "right",
                no_wrap=True,
                header_style="dim",
                footer_style="bold",
            )
        for row in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*row)
        yield Padding(table, (0, 0, 1, _INDENT), expand=False)


def _name(view: PoolView, *, ascii_only: bool) -> Text:
    colour = _COLOURS.get(view.state, "red")
    return Text.assemble(
        ("* " if ascii_only else "● ", colour),
        (f"{view.identity.stream} / {view.identity.group}", "bold"),
        f" @ {view.identity.instance}  ",
        (view.state, colour),
    )


def _facts(view: PoolView) -> Text:
    if view.state == "gone":
        facts = [f"last seen {span(view.heartbeat_s)} ago", f"master was {view.master}"]
    else:
        age = (
            f"last seen {span(view.heartbeat_s)} ago"
            if view.state == "stalled"
            else f"up {span(view.uptime_s)}"
        )
        slots, ready = _slots(view)
        facts = [age, f"{ready} of {slots} slots ready{_range(view)}", f"master {view.master}"]
        facts += [f"metrics on port {view.port}"] if view.port and not view.root else []
    facts += [f"generation {view.generation}"] if view.generation else []
    facts += [f"{view.reloads_failed} failed reloads"] if view.reloads_failed else []
    return Text(", ".join(facts), "dim")


def _range(view: PoolView) -> str:
    """Return how the number of slots comes about, where it is not just configured."""
    sizes = view.sizes
    between = f"{sizes.least}-{sizes.most}" if sizes.most else ""
    words = [between, "by hand" if sizes.by_hand else sizes.last if between else ""]
    return f" ({', '.join(filter(None, words))})" if any(words) else ""


def _right(view: PoolView) -> Text:
    """Return one line about whether the pool may act."""
    held = (
        f"instance lease for {span(view.lease_s)}" if view.lease_s else "no instance lease: workers stand by"
    )
    epoch = f", epoch {view.leader_epoch}" if view.leader_epoch else ""
    words = [held, ("leads the group" if view.leading else "does not lead the group") + epoch]
    bad = view.paused or not view.lease_s
    return Text(", ".join([*words, *(["paused"] if view.paused else [])]), "yellow" if bad else "dim")


def _breakers(view: PoolView) -> list[str]:
    """Return one line about each circuit breaker that is not closed, and one about what waits for them."""
    lines = []
    for event, breaker in view.breakers.items():
        if breaker.state == "closed":
            continue
        line = f"circuit breaker of {event} is {breaker.state}"
        if math.isinf(breaker.due_s):
            line += ", until it is closed by hand"
        elif breaker.state == "open":
            line += f", an entry is tried in {span(breaker.due_s)}"
        lines.append(line)
    if waits := sum(slot.deferred for slot in view.slots):
        lines.append(f"{short(waits)} entries wait for circuit breakers")
    return lines


@dataclass(frozen=True)
class _Spec:
    """A column: what is in it, and how soon it is left out (the higher the sooner)."""

    title: str
    rank: int
    cell: Callable[[SlotView, PoolView], Text]
    foot: Callable[[PoolView], str] = lambda _: ""
    left: bool = False


@dataclass(frozen=True)
class _Column:
    spec: _Spec
    cells: list[Text]
    foot: str

    @classmethod
    def of(cls, spec: _Spec, view: PoolView) -> _Column:
        return cls(spec, [spec.cell(slot, view) for slot in view.slots], spec.foot(view))

    @property
    def width(self) -> int:
        return max(cell.cell_len for cell in (*self.cells, Text(self.spec.title), Text(self.foot)))


def _width(columns: Iterable[_Column], gap: int) -> int:
    widths = [column.width for column in columns]
    return sum(widths) + gap * (len(widths) - 1)


def _state(slot: SlotView, view: PoolView) -> Text:
    """Return one word for what the master and the worker say of a slot."""
    state = slot.state
    if view.state == "gone" and state != "retired":
        state = "gone" if slot.cpu_s is None else slot.desk
    elif state == "running":
        state = slot.desk if slot.booted else "booting"
    return Text(state, _COLOURS.get(state, "dim"))


def _doing(slot: SlotView, view: PoolView) -> Text:
    if slot.current is not None and (view.state != "gone" or slot.cpu_s is not None):
        return Text(f"{slot.current.entry} {span(slot.current.seconds)}")
    if slot.phase and view.state != "gone":
        return Text(f"{slot.phase} for {slot.phase_s:.0f} s", "yellow")
    if slot.next_spawn_s is not None and view.state != "gone":
        return Text(f"starts in {span(slot.next_spawn_s)}", "dim")
    return Text("")


def _count(pick: Callable[[SlotView], int], colour: str, slot: SlotView, _: PoolView) -> Text:
    number = pick(slot)
    return Text(short(number), colour if number else "dim")


def _sum(pick: Callable[[SlotView], int], view: PoolView) -> str:
    return short(sum(map(pick, view.slots)))


def _counts(title: str, rank: int, pick: Callable[[SlotView], int], colour: str = "") -> _Spec:
    return _Spec(title, rank, partial(_count, pick, colour), partial(_sum, pick))


def _rates(title: str, rank: int, pick: Callable[[SlotView], float]) -> _Spec:
    def cell(slot: SlotView, _: PoolView) -> Text:
        return Text(rate(pick(slot)), "" if pick(slot) else "dim")

    return _Spec(title, rank, cell, lambda view: rate(sum(map(pick, view.slots))))


def _usage(
    title: str, rank: int, pick: Callable[[SlotView], float | None], show: Callable[[float], str]
) -> _Spec:
    def cell(slot: SlotView, _: PoolView) -> Text:
        value = pick(slot)
        return Text("-", "dim") if value is None else Text(show(value))

    def foot(view: PoolView) -> str:
        values = [value for slot in view.slots if (value := pick(slot)) is not None]
        return show(sum(values)) if values else "-"

    return _Spec(title, rank, cell, foot)


_SPECS = (
    _Spec("slot", 0, lambda slot, _: Text(str(slot.slot)), lambda _: "all"),
    _Spec("pid", 12, lambda slot, _: Text("-" if slot.pid is None else str(slot.pid), "dim")),
    _Spec("state", 1, _state, left=True),
    _Spec("doing", 2, _doing, left=True),
    _rates("in/s", 9, lambda slot: slot.came),
    _rates("out/s", 7, lambda slot: slot.went),
    _counts("read", 13, lambda slot: slot.counters["read"]),
    _counts("handled", 3, lambda slot: slot.counters["handled"]),
    _counts("failed", 5, lambda slot: slot.counters["failed"], "yellow"),
    _counts("retried", 14, lambda slot: slot.counters["retried"], "yellow"),
    _counts("waiting", 6, lambda slot: slot.waiting, "yellow"),
    _counts("dead", 4, lambda slot: slot.dead, "red"),
    _counts("recov", 16, lambda slot: slot.counters["recovered"]),
    _counts("restarts", 8, lambda slot: slot.restarted, "yellow"),
    _usage("cpu", 15, lambda slot: slot.cpu_s, span),
    _usage("mem", 11, lambda slot: slot.rss, memory),
)
