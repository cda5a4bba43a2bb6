"""The exposition: metrics as the bytes that Prometheus reads, in its text format or in OpenMetrics.

A large pool has ten thousands of series, and nearly all of them are buckets whose names and labels never
change: they are written once, as a template, and a scrape only puts the numbers in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from .view import Counts

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def labels(pairs: Mapping[str, str]) -> str:
    """Return labels as they stand between the braces."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class Templates:
    """The lines of histograms without their numbers, by metric and labels."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[tuple[str, str, str | None], bytes] = {}

    def fill(self, name: str, where: str, counts: Counts, event: str | None) -> bytes:
        """Return the lines of one histogram; see `Exposition.histogram`."""
        template = self._known.get((name, where, event))
        if template is None:
            all_labels = where if event is None else f"{where},{labels({'event': event})}"
            template = self._known[name, where, event] = _template(name, all_labels, counts.bounds)
        upto = [*accumulate(counts.buckets)]
        return template % (*upto, upto[-1], _number(counts.total).encode())


def _template(name: str, where: str, bounds: Sequence[float]) -> bytes:
    where = where.replace("%", "%%")
    rows = [f'{name}_bucket{{{where},le="{bound}"}} %d' for bound in (*map(float, bounds), "+Inf")]
    lines = [*rows, f"{name}_count{{{where}}} %d", f"{name}_sum{{{where}}} %b", ""]
    return "\n".join(lines).encode()


class Exposition:
    """One page, family by family: its head first, then its samples."""

    def __init__(self, templates: Templates, *, openmetrics: bool) -> None:
        """Begin a page.

        Arguments:
            templates: kept from page to page.
            openmetrics: the format; Prometheus's own text otherwise.
        """
        self._templates, self._openmetrics = templates, openmetrics
        self._parts: list[bytes] = []

    def family(self, name: str, kind: str, words: str) -> None:
        """Begin a metric.

        Arguments:
            name: without `_total` and `_info`.
            kind: counter, gauge, histogram or info.
            words: its meaning; plain text in one line.
        """
        if not self._openmetrics:
            name += {"counter": "_total", "info": "_info"}.get(kind, "")
            kind = "gauge" if kind == "info" else kind
        self._parts.append(f"# HELP {name} {words}\n# TYPE {name} {kind}\n".encode())

    def samples(self, name: str, rows: Iterable[tuple[str, float]]) -> None:
        """Add a line for each (labels, value), with the name as it is to be written."""
        lines = [f"{name}{{{where}}} {_number(value)}\n" for where, value in rows]
        self._parts.append("".join(lines).encode())

    def histogram(self, name: str, where: str, counts: Counts, event: str | None = None) -> None:
        """Add the lines of a histogram.

        Arguments:
            name: of the metric.
            where: its labels, see `labels`.
            counts: its numbers.
            event: the value of one more label, None for none.
        """
        self._parts.append(self._templates.fill(name, where, counts, event))

    def page(self) -> bytes:
        """Return all of it."""
        return b"".join((*self._parts, b"# EOF\n" if self._openmetrics else b""))


def _number(value: float) -> str:
    if isinstance(value, int) or math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
