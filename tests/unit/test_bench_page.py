"""The page of the benches says what the kept answers say, no more and no less."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from rsq.bench import page
from rsq.bench.answer import Answer, Figure, Plot, Table, keep, kept, number

DOCS = Path(__file__).parents[2] / "docs"
MACHINE = {"date": "2026-01-31", "processor": "a quick one", "Python": "3.11.7"}
PLOTS = (
    Plot("costs", "bars", "Costs", "", "us", {"rsq": [1.5], "a | b": [22.0]}, log_y=True, ours=("rsq",)),
    Plot("curves", "lines", "Curves", "pending", "us", {"rsq": [0, 1.0, 1000, 1.1]}, log_x=True),
    Plot("waits", "shares", "Waits", "ms", "messages", {"rsq": [0.1, 0.2, 0.4], "raw": [0.1, 0.1, 0.2]}),
)
FIGURES = (
    Figure("CPU against the raw loop", (1.31, 1.35, 1.42), "times", at_most=1.5),
    Figure("share of the wall clock", (0.61, 0.62, 0.66), "times", at_least=0.8),
    Figure("the worker", (1234.5,), "us a message"),
)
ANSWER = Answer(
    "throughput", "How fast?", "By running it.", FIGURES,
    (Table("Versions", ("library", "is"), (("x|y", "1.0"),)),), PLOTS, ("What a reader should know.",),
)  # fmt: skip


def rows(text: str) -> list[list[str]]:
    """The cells of all tables."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_every_figure_stands_beside_its_target() -> None:
    """Median, spread, target and whether it is met, at a glance and in the section of the bench."""
    text = page.markdown([(ANSWER, MACHINE)])
    met, missed, plain = FIGURES
    for figure, word in ((met, "met"), (missed, "**missed**")):
        cells = [figure.what, figure.found, figure.target, word]
        assert cells in rows(text)
        assert ["[throughput](#throughput)", *cells] in rows(text)
    assert [plain.what, "1,234 us a message", "", ""] in rows(text)
    assert "1 of 2 are met." in text
    for words in (ANSWER.question, ANSWER.method, *ANSWER.notes, "a quick one", "2026-01-31"):
        assert words in text
    assert ["x\\|y", "1.0"] in rows(text)


def test_what_differs_between_answers_stands_with_each() -> None:
    """An answer of another day or another Python says so; what all share is said once."""
    other = Answer("growth", "Does it grow?", "By counting.")
    text = page.markdown([(ANSWER, MACHINE), (other, {**MACHINE, "date": "2026-02-01"})])
    assert "Measured with date 2026-01-31." in text
    assert "Measured with date 2026-02-01." in text
    assert text.count("a quick one") == 1


def test_one_answer_of_another_machine_does_not_make_all_others_say_theirs() -> None:
    others = [Answer(name, "?", "By counting.") for name in ("one", "two")]
    text = page.markdown(
        [*((one, MACHINE) for one in others), (ANSWER, {**MACHINE, "server": "Redis 8.6.2"})]
    )
    assert "Measured with server Redis 8.6.2." in text
    assert text.count("2026-01-31") == 1


def test_the_committed_page_is_what_the_committed_answers_say() -> None:
    """After a bench was run again: python -m rsq.bench page."""
    assert (DOCS / "benchmarks.md").read_text() == page.markdown(page.found(DOCS / "benchmarks"))


def test_the_committed_page_shows_pictures_and_numbers_that_exist() -> None:
    """Every picture it links is there, none lies about unused, and every median is on the page."""
    text = (DOCS / "benchmarks.md").read_text()
    linked = set(re.findall(r"\((benchmarks/[^)]+\.(?:svg|png))\)", text))
    there = {f"benchmarks/{path.name}" for path in (DOCS / "benchmarks").iterdir() if path.suffix != ".json"}
    assert linked == there
    for answer, _ in page.found(DOCS / "benchmarks"):
        for figure in answer.figures:
            shown = [cells[1] for cells in rows(text) if cells[0] == figure.what and len(cells) == 4]
            assert any(words.startswith(number(figure.median)) for words in shown)


def test_of_a_distribution_percentiles_are_kept(tmp_path: Path) -> None:
    """Ten thousand values become about a thousand; ends, median and 99th percentile stay."""
    values = [float((7 * n) % 10_001) for n in range(10_001)]
    plot = Plot("waits", "shares", "Waits", "ms", "messages", {"many": values, "one": [3.0], "none": []})
    keep(Answer("waits", "?", "?", plots=(plot,)), MACHINE, tmp_path)
    (found,) = kept(tmp_path / "waits.json")[0].plots
    assert len(found.series["many"]) == 1001
    assert [found.series["many"][at] for at in (0, 500, 990, 1000)] == [0.0, 5000.0, 9900.0, 10_000.0]
    assert (found.series["one"], found.series["none"]) == ([3.0], [])


def test_only_drawing_needs_matplotlib() -> None:
    """Benches run, and the page's text is written, without it."""
    modules = (Path(page.__file__).parent).glob("*.py")
    assert {path.stem for path in modules if "import matplotlib" in path.read_text()} == {"drawing"}


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib draws the pictures")
def test_pictures_are_the_same_every_time(tmp_path: Path) -> None:
    """A new answer replaces the kept one, old pictures go, and drawing again changes no byte."""
    results, docs = tmp_path / "results", tmp_path / "docs"
    (docs / "benchmarks").mkdir(parents=True)
    (docs / "benchmarks" / "old.svg").touch()
    keep(ANSWER, MACHINE, results)
    assert page.write(results, docs) == ["throughput"]
    folder = docs / "benchmarks"
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    names = {f"{plot.name}.{ending}" for plot in PLOTS for ending in ("svg", "png")}
    assert first.keys() == names | {"throughput.json"}
    assert page.write(tmp_path / "nothing", docs) == ["throughput"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert (docs / "benchmarks.md").read_text() == page.markdown([(ANSWER, MACHINE)])
