"""Pictures of plots, as SVG and PNG. The same data gives the same files, byte by byte.

Ours is drawn in one strong colour, everything else in grey; names stand beside what they name.
A picture is made to be read at a width of 700 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from .answer import Plot, number

OURS, THEIRS, TEXT, FAINT = "#d9480f", "#868e96", "#212529", "#dee2e6"
WIDTH, BAR_HEIGHT, HEIGHT = 7.0, 0.34, 3.9  # inches
MOST_POINTS = 400  # of a distribution: more cannot be seen
GAP = 0.062  # between two names at the side, as a part of the height
FEW = 5  # curves whose names have room for a second line
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
STYLE = {
    "font.size": 11,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": THEIRS,
    "axes.labelcolor": TEXT,
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "svg.fonttype": "path",
}


def draw(plot: Plot, folder: Path) -> None:
    """Write a plot into `folder`/`name`.svg and .png."""
    kinds: dict[str, Callable[[Any, Plot], None]] = {"bars": _bars, "lines": _lines, "shares": _shares}
    height = 1.25 + BAR_HEIGHT * len(plot.series) if plot.kind == "bars" else HEIGHT
    with mpl.rc_context({**STYLE, "svg.hashsalt": plot.name}):
        canvas = Canvas(figsize=(WIDTH, height), layout="constrained")
        canvas.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
        axes: Any = canvas.add_subplot()
        axes.set_axisbelow(True)
        kinds[plot.kind](axes, plot)
        canvas.suptitle(plot.title, x=0.02, ha="left", fontsize=12.5, fontweight="bold")
        canvas.savefig(folder / f"{plot.name}.svg", metadata={"Date": None, "Creator": None})
        canvas.savefig(folder / f"{plot.name}.png", metadata={"Software": None}, dpi=200)


def short(value: float) -> str:
    """Return a number for an axis: 5M, 100k, 250, 0.1."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def _bars(axes: Any, plot: Plot) -> None:
    """Lay one bar a name, in the order given, its value behind it."""
    names = list(plot.series)
    values = [plot.series[name][0] for name in names]
    colours = [OURS if name in plot.ours else THEIRS for name in names]
    axes.barh(names, values, color=colours, height=0.7)
    axes.invert_yaxis()
    log = plot.log_x or plot.log_y
    if log:
        axes.set_xscale("log")
        low, high = min((value for value in values if value > 0), default=1.0), max(*values, 1e-9)
        axes.set_xlim(low / 3, high * (high / low * 3) ** 0.14)
        _log_ticks(axes.xaxis)
    else:
        axes.set_xlim(0, max(values) * 1.14 or 1)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    left = axes.get_xlim()[0]  # a zero has no place on a logarithmic axis
    for at, value in enumerate(values):
        weight = "bold" if names[at] in plot.ours else "normal"
        axes.annotate(
            number(value), (max(value, left), at), (5, 0), textcoords="offset points",
            va="center", weight=weight,
        )  # fmt: skip
    for label in axes.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in plot.ours else "normal")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=FAINT)
    axes.set_xlabel(_scaled(plot.y or plot.x, log))


def _lines(axes: Any, plot: Plot) -> None:
    """Draw a curve a name, the name at its end."""
    ends: list[tuple[float, str, str, Any]] = []
    places: set[float] = set()
    for name, colour, dash in _styles(plot):
        flat = plot.series[name]
        xs, ys = flat[::2], flat[1::2]
        places |= set(xs)
        axes.plot(xs, ys, color=colour, linestyle=dash, marker="o", markersize=4.5, linewidth=2)
        ends.append((ys[-1], name, colour, dash))
    if plot.log_x:
        smallest = min((x for x in places if x > 0), default=1.0)
        axes.set_xscale("symlog" if min(places) <= 0 else "log", **_zero(places, smallest))
    if len(places) <= 9:
        axes.xaxis.set_major_locator(FixedLocator(sorted(places)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    elif plot.log_x:
        _log_ticks(axes.xaxis)
    if plot.log_y:
        axes.set_yscale("log")
        _log_ticks(axes.yaxis)
    else:
        axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.margins(x=0.03)
    axes.grid(axis="y", color=FAINT)
    axes.set_xlabel(_scaled(plot.x, plot.log_x))
    axes.set_ylabel(_scaled(plot.y, plot.log_y))
    axes.get_ylim()  # makes the axes settle their limits: the heights follow from them
    place = axes.transData + axes.transAxes.inverted()
    heights = [float(place.transform((1, y))[1]) for y, *_ in ends]
    for (_, name, colour, dash), height in zip(ends, _apart(heights), strict=True):
        _beside(axes, name, colour, dash, height, name in plot.ours)


def _shares(axes: Any, plot: Plot) -> None:
    """Draw the share of values up to x, a curve a name; medians and 99th percentiles beside the names."""
    rows = []
    between = "\n" if len(plot.series) <= FEW else ": "
    for name, colour, dash in _styles(plot):
        values = sorted(plot.series[name])
        last = len(values) - 1
        steps = min(MOST_POINTS, last) or 1
        shown = [values[round(at * last / steps)] for at in range(steps + 1)]
        axes.plot(
            shown, [100 * at / steps for at in range(steps + 1)], color=colour, linestyle=dash, linewidth=2
        )
        middle, high = values[last // 2], values[round(last * 0.99)]
        # Of few values the 99th percentile is the largest, and should be called so.
        tail = f"p99 {number(high)}" if last >= 100 else f"most {number(values[-1])}"
        rows.append((middle, f"{name}{between}p50 {number(middle)}, {tail}", colour, dash, name in plot.ours))
    if plot.log_x:
        axes.set_xscale("log")
        _log_ticks(axes.xaxis)
    else:
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.set_ylim(0, 101)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.grid(color=FAINT)
    axes.set_xlabel(_scaled(plot.x, plot.log_x))
    axes.set_ylabel(plot.y)
    rows.sort(key=lambda row: row[0])
    for at, (_, words, colour, dash, is_ours) in enumerate(rows):
        _beside(axes, words, colour, dash, 0.92 - at * min(0.16, 0.86 / len(rows)), is_ours)


def _styles(plot: Plot) -> Iterator[tuple[str, str, Any]]:
    """Yield name, colour and dash of each series; names of one colour differ by their dashes."""
    ours, theirs = cycle(DASHES), cycle(DASHES)
    for name in (name for name, values in plot.series.items() if values):
        is_ours = name in plot.ours
        yield name, OURS if is_ours else THEIRS, next(ours if is_ours else theirs)


def _zero(places: set[float], smallest: float) -> dict[str, float]:
    """Return the options of an axis that is logarithmic but shows zero too."""
    return {"linthresh": smallest, "linscale": 0.6} if min(places) <= 0 else {}


def _beside(axes: Any, words: str, colour: str, dash: Any, height: float, is_ours: bool) -> None:
    """Write words at the right side of the axes, a piece of their line before them."""
    axes.plot(
        [1.015, 1.06], [height] * 2, color=colour, linestyle=dash, linewidth=2,
        transform=axes.transAxes, clip_on=False, scalex=False, scaley=False,
    )  # fmt: skip
    axes.annotate(
        words, (1.06, height), (4, 0), xycoords="axes fraction", textcoords="offset points",
        va="center", color=colour, weight="bold" if is_ours else "normal", fontsize=10.5,
    )  # fmt: skip


def _apart(heights: Sequence[float]) -> list[float]:
    """Return heights moved up just so far that no two are closer than `GAP`."""
    found = dict.fromkeys(range(len(heights)), 0.0)
    least = -1.0
    for at in sorted(found, key=lambda at: heights[at]):
        found[at] = least = max(heights[at], least + GAP)
    return [found[at] for at in range(len(heights))]


def _scaled(words: str, log: bool) -> str:
    return f"{words} (log scale)" if log else words


def _log_ticks(axis: Any) -> None:
    low, high = axis.get_view_interval()
    steps = (1.0,) if high > 200 * low else (1.0, 2.0, 5.0)  # else a narrow axis would have one tick
    axis.set_major_locator(LogLocator(subs=steps, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())
