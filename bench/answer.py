"""An answer: what a bench found out, as values that can be printed, kept in a file and drawn."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

MOST_SHARES = 1001  # so that percentiles are among them


@dataclass(frozen=True)
class Scale:
    """How much work a bench does.

    Arguments:
        runs: how often every side is measured, in turn.
        size: what the usual numbers of messages are multiplied with; below 1 for a quick look.
    """

    runs: int = 5
    size: float = 1.0

    def messages(self, usual: int) -> int:
        """Return how many messages to use where a full run uses `usual`."""
        return max(100, int(usual * self.size))


@dataclass(frozen=True)
class Figure:
    """One measured quantity, a value per run, and what it should be.

    Arguments:
        what: in words.
        values: one per run, or one in all.
        unit: as printed behind the value.
        at_most, at_least: the target; None for none.
    """

    what: str
    values: tuple[float, ...]
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def median(self) -> float:
        """Return the median, by which the target is judged."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Tell whether the target is met; None without one."""
        if self.at_most is not None:
            return self.median <= self.at_most
        return None if self.at_least is None else self.median >= self.at_least

    @property
    def found(self) -> str:
        """Return the median with the spread."""
        low, high = min(self.values), max(self.values)
        around = "" if low == high else f" ({number(low)} - {number(high)})"
        return f"{number(self.median)}{around} {self.unit}".rstrip()

    @property
    def target(self) -> str:
        """Return the target in words, empty without one."""
        if self.at_most is not None:
            return f"at most {number(self.at_most)} {self.unit}".rstrip()
        return "" if self.at_least is None else f"at least {number(self.at_least)} {self.unit}".rstrip()


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; numbers are written out by who measured them."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Plot:
    """Data of one picture.

    Arguments:
        name: of its file, without an ending.
        kind: `bars`: one value a name; `lines`: a curve of (x, y) a name; `shares`: values a name, drawn as
            their cumulative distribution.
        title, x, y: words on it, with units.
        series: name -> [value], [x0, y0, x1, y1, ...] or values, by kind.
        log_x, log_y: logarithmic axes.
        ours: names that are drawn as ours.
    """

    name: str
    kind: Literal["bars", "lines", "shares"]
    title: str
    x: str
    y: str
    series: dict[str, list[float]]
    log_x: bool = False
    log_y: bool = False
    ours: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What one bench found out.

    Arguments:
        name: of the bench.
        question: that it answers.
        method: how it was measured, in a few sentences.
        figures: measured quantities, with targets where there are some.
        tables, plots: what is shown beside them.
        notes: what a reader should know: what holds a target that is missed, what a peer cannot do.
    """

    name: str
    question: str
    method: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def met(self) -> bool:
        """Tell whether no target is missed."""
        return all(figure.met is not False for figure in self.figures)


def number(value: float) -> str:
    """Return a number with about three digits that matter."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    """Return ours / theirs, run by run: both sides of a ratio come from the same run."""
    return tuple(a / b for a, b in zip(ours, theirs, strict=True))


def thinned(plot: Plot) -> Plot:
    """Return a plot of shares with at most `MOST_SHARES` values a name, smallest and largest among them."""
    if plot.kind != "shares":
        return plot
    series = {}
    for name, values in plot.series.items():
        last, steps = len(values) - 1, min(len(values), MOST_SHARES) - 1
        ordered = sorted(values)
        series[name] = [ordered[round(at * last / steps) if steps else 0] for at in range(steps + 1)]
    return replace(plot, series=series)


def keep(answer: Answer, machine: dict[str, str], folder: Path) -> None:
    """Write an answer and the machine it was found on into `folder`/`name`.json.

    Of a distribution as many values are kept as a picture can show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    answer = replace(answer, plots=tuple(thinned(plot) for plot in answer.plots))
    words = {"machine": machine, "answer": asdict(answer)}
    (folder / f"{answer.name}.json").write_text(json.dumps(words, indent=1) + "\n")


def kept(path: Path) -> tuple[Answer, dict[str, str]]:
    """Return what `keep` wrote."""
    words: dict[str, Any] = json.loads(path.read_text())
    found = words["answer"]
    return (
        Answer(
            found["name"],
            found["question"],
            found["method"],
            tuple(Figure(**{**row, "values": tuple(row["values"])}) for row in found["figures"]),
            tuple(
                Table(row["title"], tuple(row["head"]), tuple(tuple(cells) for cells in row["rows"]))
                for row in found["tables"]
            ),
            tuple(Plot(**{**row, "ours": tuple(row["ours"])}) for row in found["plots"]),
            tuple(found["notes"]),
        ),
        words["machine"],
    )
