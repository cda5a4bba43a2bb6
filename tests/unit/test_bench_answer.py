"""An answer of a bench survives being kept, and judges its figures by their medians."""

from __future__ import annotations

from pathlib import Path

from rsq.bench.answer import Answer, Figure, Plot, Table, keep, kept


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    answer = Answer(
        "name",
        "question?",
        "method",
        (Figure("a", (1.0, 2.0, 9.0), "us", at_most=2.0), Figure("b", (3.0,), "", at_least=4.0)),
        (Table("title", ("x", "y"), (("1", "2"), ("3", "4"))),),
        (Plot("plot", "lines", "title", "x", "y", {"ours": [1.0, 2.0]}, log_y=True, ours=("ours",)),),
        ("a note",),
    )
    keep(answer, {"cores": "2"}, tmp_path / "new")
    assert kept(tmp_path / "new" / "name.json") == (answer, {"cores": "2"})


def test_the_median_is_judged() -> None:
    assert Figure("a", (1.0, 2.0, 9.0), "", at_most=2.0).met
    assert not Figure("a", (1.0, 2.1, 9.0), "", at_most=2.0).met
    assert not Figure("a", (1.0,), "", at_least=2.0).met
    assert Figure("a", (1.0,), "").met is None
