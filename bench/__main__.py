"""Benches: python -m rsq.bench list | run NAME... | all | page"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from . import page, rig
from .answer import Answer, Scale, keep
from .catalogue import NAMES, bench

RESULTS, DOCS = Path("build/bench"), Path("docs")


def show(answer: Answer, machine: dict[str, str], console: Console) -> None:
    """Print an answer, and the server it was found on, for a person at a terminal."""
    console.print(f"\n[bold]{answer.name}[/]: {answer.question} ({machine['server']})")
    if answer.figures:
        grid = Grid("what", "found: median (spread)", "target", "", box=None, pad_edge=False)
        for figure in answer.figures:
            word = {True: "met", False: "MISSED", None: ""}[figure.met]
            grid.add_row(figure.what, figure.found, figure.target, word)
        console.print(grid)
    for table in answer.tables:
        grid = Grid(*table.head, title=table.title, title_justify="left", box=None, pad_edge=False)
        for row in table.rows:
            grid.add_row(*row)
        console.print(grid)
    for note in answer.notes:
        console.print(f"- {note}")


def main() -> int:
    """Run benches; keep what they found in `build/bench/NAME.json`; return 1 if one is void or missed."""
    parser = argparse.ArgumentParser(prog="python -m rsq.bench", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="name every bench and its question")
    run = verbs.add_parser("run", help="run some benches")
    run.add_argument("names", nargs="+", choices=NAMES, metavar="NAME")
    whole = verbs.add_parser("all", help="run every bench")
    for verb in (run, whole):
        verb.add_argument("--runs", type=int, default=5, help="measure every side so often, in turn")
        verb.add_argument("--size", type=float, default=1.0, help="multiply numbers of messages with this")
    verbs.add_parser("page", help="write docs/benchmarks.md and its pictures from the kept answers")
    wanted = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    if wanted.verb == "list":
        for name in NAMES:
            console.print(f"{name:12} {bench(name).QUESTION}")
        return 0
    if wanted.verb == "page":
        console.print(f"docs/benchmarks.md shows {', '.join(page.write(RESULTS, DOCS))}")
        return 0
    missed = False
    for name in NAMES if wanted.verb == "all" else wanted.names:
        try:
            answer = bench(name).answer(Scale(wanted.runs, wanted.size))
        except rig.Void as void:  # the others can be answered all the same
            console.print(f"\n[bold]{name}[/]: void, no figures: {escape(str(void))}")
            missed = True
            continue
        machine = rig.machine()
        keep(answer, machine, RESULTS)
        show(answer, machine, console)
        missed |= not answer.met
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
