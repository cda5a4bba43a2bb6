"""`rsq status`: the pools of this host, from the segments they leave in memory.

It asks nobody: a pool that hangs, or whose master was killed, is shown as well as a healthy one.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..ipc.exitcodes import OK
from ..ipc.segment import Segment, SegmentError
from .board import boards, living_root, render
from .printable import json_text
from .reading import label, snapshot
from .view import Counts, PoolView, SlotView

__all__ = ["NOTHING_FOUND", "Filters", "as_json", "find", "render", "run"]

NOTHING_FOUND = 1
_EVERY_S = 1.0
_PIPE_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Filters:
    """Which pools to show: those whose names are the ones given."""

    stream: str | None = None
    group: str | None = None
    instance: str | None = None

    def match(self, view: PoolView) -> bool:
        """Tell whether a pool is meant."""
        wanted = (self.stream, self.group, self.instance)
        names = (view.identity.stream, view.identity.group, view.identity.instance)
        return all(want is None or label(want) == name for want, name in zip(wanted, names, strict=True))


def run(directories: Sequence[Path], filters: Filters, watch: bool, as_json: bool) -> int:
    """Print the pools whose segments lie in some directories.

    Arguments:
        directories: where to look.
        filters: which pools to show.
        watch: again every second, until interrupted.
        as_json: a JSON list of objects instead of tables; with `watch` one list per line.

    Returns:
        The exit code: 1 when there is no such pool.
    """
    show = _show_json if as_json else _show_live if watch and sys.stdout.isatty() else _show_tables
    try:
        return show(directories, filters, watch)
    except KeyboardInterrupt:
        return OK  # the way a watch is ended


def find(directories: Sequence[Path], filters: Filters) -> tuple[list[PoolView], list[str]]:
    """Return the pools in some directories, ordered by name, and what could not be read."""
    views, troubles = [], []
    for path in sorted(path for directory in directories for path in directory.glob("*.seg")):
        try:
            segment = Segment.attach(path)
        except SegmentError as error:
            troubles.append(str(error))
            continue
        try:
            views.append(snapshot(segment))
        finally:
            segment.close()
    found = [view for view in views if filters.match(view)]
    return sorted(found, key=_order), troubles


def _order(view: PoolView) -> tuple[object, ...]:
    """Living pools first, those of one root together."""
    return (view.state == "gone", living_root(view) or 0, *asdict(view.identity).values())


def as_json(view: PoolView) -> dict[str, Any]:
    """Return a pool as a value for JSON: exact numbers, times in seconds, sizes in bytes."""
    return {
        **asdict(view.identity),
        "state": view.state,
        "workers": view.workers,
        "ready": sum(slot.ready for slot in view.slots),
        "master": view.master,
        "root": living_root(view),
        "uptime_s": view.uptime_s,
        "heartbeat_age_s": None if math.isinf(view.heartbeat_s) else view.heartbeat_s,
        "generation": view.generation,
        "reloads_failed": view.reloads_failed,
        "exporter": view.exporter,
        "metrics_port": view.port,
        "keeper": view.keeper,
        "lease_s": view.lease_s,
        "leading": view.leading,
        "leader_epoch": view.leader_epoch,
        "paused": view.paused,
        "swept": view.swept,
        "breakers": {
            event: {
                "state": one.state,
                "probe_in_s": None if one.state == "closed" or math.isinf(one.due_s) else one.due_s,
                "opened": one.opened,
            }
            for event, one in view.breakers.items()
        },
        "scaling": {
            "least": view.sizes.least,
            "most": view.sizes.most,
            "by_hand": view.sizes.by_hand,
            "last": view.sizes.last or None,
            "changes": view.sizes.changes,
            "unread": view.sizes.unread,
            "unread_exact": view.sizes.exact,
            "busy": view.sizes.busy,
            "rate_per_s": view.sizes.rate or None,
        },
        "total": {
            **{name: view.total(name) for name in (view.slots[0].counters if view.slots else ())},
            "waiting": sum(slot.waiting for slot in view.slots),
            "waiting_for_breaker": sum(slot.deferred for slot in view.slots),
            "in_per_s": sum(slot.came for slot in view.slots),
            "out_per_s": sum(slot.went for slot in view.slots),
        },
        "slots": [_slot_json(slot) for slot in view.slots],
    }


def _slot_json(slot: SlotView) -> dict[str, Any]:
    return {
        "slot": slot.slot,
        "pid": slot.pid,
        "state": slot.state,
        "doing": slot.desk,
        "booted": slot.booted,
        "connected": slot.connected,
        "entry": None if slot.current is None else slot.current.entry,
        "entry_s": None if slot.current is None else slot.current.seconds,
        **slot.counters,
        "waiting": slot.waiting,
        "waiting_for_breaker": slot.deferred,
        "held": slot.held,
        "in_per_s": slot.came,
        "out_per_s": slot.went,
        "restarts": slot.restarts,
        "cpu_s": slot.cpu_s,
        "memory_bytes": slot.rss,
        "reports_dropped": slot.dropped,
        "lent": slot.lent,
        "phase": slot.phase or None,
        "phase_s": slot.phase_s if slot.phase else None,
        "next_spawn_s": slot.next_spawn_s,
        "handler_s": {event: _mean(counts) for event, counts in slot.handlers.items()},
    }


def _mean(counts: Counts) -> dict[str, float | int | None]:
    count = sum(counts.buckets)
    return {"count": count, "sum": counts.total, "mean": counts.total / count if count else None}


def _show_json(directories: Sequence[Path], filters: Filters, watch: bool) -> int:
    while True:
        views, troubles = find(directories, filters)
        values = [as_json(view) for view in views]
        print(json_text(values, indent=None if watch else 2), flush=True)  # noqa: T201
        if not watch:
            if not views:
                _complain(directories, troubles)
            return OK if views else NOTHING_FOUND
        time.sleep(_EVERY_S)


def _show_tables(directories: Sequence[Path], filters: Filters, watch: bool) -> int:
    # Without a terminal there is no width to keep to; programs should ask for JSON.
    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    console = Console(highlight=False, width=wide)
    while True:
        views, troubles = find(directories, filters)
        console.print(*boards(views), sep="", end="")
        if not views:
            _complain(directories, troubles)
        if not watch:
            return OK if views else NOTHING_FOUND
        time.sleep(_EVERY_S)


def _show_live(directories: Sequence[Path], filters: Filters, watch: bool) -> int:
    console = Console(highlight=False)
    shown: Group | Text = Text("")
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while watch:
                views, troubles = find(directories, filters)
                shown = Group(*boards(views)) if views else Text(_nothing(directories, troubles))
                live.update(shown, refresh=True)
                time.sleep(_EVERY_S)
    finally:
        console.print(shown)  # the last picture stays when the screen is given back
    return OK


def _complain(directories: Sequence[Path], troubles: Sequence[str]) -> None:
    print(_nothing(directories, troubles), file=sys.stderr)  # noqa: T201


def _nothing(directories: Sequence[Path], troubles: Sequence[str]) -> str:
    where = ", ".join(label(str(directory)) for directory in directories)
    words = f"no pool found in {where}; --runtime-dir looks elsewhere"
    return "\n".join([words, *map(label, troubles)])
