"""The page: kept answers as `docs/benchmarks.md`, with their pictures.

The answers that the page shows are kept beside the pictures, so that anyone can write it again:
the same answers give the same page.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .answer import Answer, Figure, Plot, Table, kept
from .catalogue import NAMES

Kept = tuple[Answer, dict[str, str]]

INTRO = """\
# Benchmarks

What a message costs, how long it waits, what a crash costs, and what all that needs in memory: measured
beside the bare protocol loop, which has no guarantee at all, and beside other libraries. This page is
written by `python -m rsq.bench page` from the answers in [`benchmarks/`](benchmarks/); do not edit it.

    make bench                                # all of it, then this page
    python -m rsq.bench list                  # the questions
    python -m rsq.bench run throughput        # one of them
    python -m rsq.bench run throughput --runs 1 --size 0.05    # a quick look

`rsq bench --redis URL` measures on a server of your own, on a stream that is thrown away.

## What to believe

- **Ratios.** The machine is shared with others: seconds differ by up to two times between hours. What is
  compared was measured in turn, in one run, and a ratio is of two figures of one run. A target is judged
  by the median over the runs; the spread (smallest - largest) stands behind it.
- **CPU, more than the clock.** CPU seconds come from the operating system's accounts: of a worker from its
  fork to its end, start and drain included; of a loop from its first connection on. Server and worker are
  pinned to different cores.
- **Everything is on**: journal, time limits, metrics, retries, decoding. Nothing is switched off for a
  figure of ours.
- **Every message counts.** Each run is checked: every message handled exactly once, nothing left pending,
  or the run is void and there is no figure.
- A missed target is shown as missed, with what holds it.

What is not measured here: networks (server and workers are on one host, on a socket of its own), disks (the
server writes to none), and what your handler does. [Scaling](scaling.md) has the arithmetic for these.
"""


def write(results: Path, docs: Path) -> list[str]:
    """Take over new answers, draw their plots and write the page.

    Arguments:
        results: folder where benches keep their answers; need not exist.
        docs: folder of the page; answers and pictures are in `benchmarks` below it.

    Returns:
        Names of the benches on the page.

    Raises:
        ModuleNotFoundError: matplotlib is missing; it comes with the extra `bench`.
    """
    from .drawing import draw

    folder = docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        if (results / f"{name}.json").exists():
            shutil.copyfile(results / f"{name}.json", folder / f"{name}.json")
    answers = found(folder)
    for old in (*folder.glob("*.svg"), *folder.glob("*.png")):
        old.unlink()
    for answer, _ in answers:
        for plot in answer.plots:
            draw(plot, folder)
    (docs / "benchmarks.md").write_text(markdown(answers))
    return [answer.name for answer, _ in answers]


def found(folder: Path) -> list[Kept]:
    """Return the kept answers in a folder, in the order of the catalogue."""
    paths = [folder / f"{name}.json" for name in NAMES]
    return [kept(path) for path in paths if path.exists()]


def markdown(answers: Sequence[Kept]) -> str:
    """Return the page."""
    shared = _shared([machine for _, machine in answers])
    parts = [INTRO, _glance([answer for answer, _ in answers]), _machine(shared)]
    parts += [_section(answer, machine, shared) for answer, machine in answers]
    return "\n".join(part for part in parts if part)


def _shared(machines: Sequence[dict[str, str]]) -> dict[str, str]:
    """Return what is the same for most answers: the others say what theirs is."""
    shared = {}
    for what in machines[0] if machines else ():
        value, times = Counter(one.get(what, "") for one in machines).most_common(1)[0]
        if 2 * times > len(machines):
            shared[what] = value
    return shared


def _glance(answers: Sequence[Answer]) -> str:
    """Return the table of all targets, those that are missed included."""
    rows = [
        (f"[{answer.name}](#{answer.name})", *_figure_row(figure))
        for answer in answers
        for figure in answer.figures
        if figure.met is not None
    ]
    missed = sum(figure.met is False for answer in answers for figure in answer.figures)
    told = f"{len(rows) - missed} of {len(rows)} are met."
    head = ("bench", "what", "found: median (spread)", "target", "")
    return f"## Targets\n\n{told}\n\n{_grid(head, rows)}" if rows else ""


def _machine(shared: dict[str, str]) -> str:
    return (
        f"## Machine\n\nWhere nothing else is said:\n\n{_grid(('what', 'is'), tuple(shared.items()))}"
        if shared
        else ""
    )


def _section(answer: Answer, machine: dict[str, str], shared: dict[str, str]) -> str:
    """Return what one bench found out."""
    parts = [f"## {answer.name}\n", f"**{answer.question}**\n", f"{answer.method}\n"]
    own = [f"{what} {value}" for what, value in machine.items() if shared.get(what) != value]
    if own:
        parts.append(f"Measured with {', '.join(own)}.\n")
    if answer.figures:
        rows = [_figure_row(figure) for figure in answer.figures]
        parts.append(_grid(("what", "found: median (spread)", "target", ""), rows))
    parts += [_picture(plot) for plot in answer.plots]
    parts += [_table(table) for table in answer.tables]
    if answer.notes:
        parts.append("".join(f"- {note}\n" for note in answer.notes))
    return "\n".join(parts)


def _figure_row(figure: Figure) -> tuple[str, ...]:
    return figure.what, figure.found, figure.target, {True: "met", False: "**missed**", None: ""}[figure.met]


def _picture(plot: Plot) -> str:
    return f"[![{plot.title}](benchmarks/{plot.name}.svg)](benchmarks/{plot.name}.png)\n"


def _table(table: Table) -> str:
    return f"{table.title}:\n\n{_grid(table.head, table.rows)}"


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
