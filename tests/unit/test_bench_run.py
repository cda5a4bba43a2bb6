"""Running benches by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rsq.bench import __main__ as bench
from rsq.bench.answer import Answer, Scale
from rsq.bench.rig import Void


class Bench:
    """A bench that finds nothing, or is void."""

    QUESTION = "What is found?"

    def __init__(self, name: str) -> None:
        self._name = name

    def answer(self, scale: Scale) -> Answer:
        if self._name == "push":
            raise Void("two [bold] messages were lost")
        return Answer(self._name, self.QUESTION, "none", ())


def test_a_void_run_costs_its_own_bench_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told as it is and makes the whole a failure; nothing is kept of it, and the next one is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "bench", Bench)
    monkeypatch.setattr(sys, "argv", ["bench", "run", "push", "scrape"])
    assert bench.main() == 1
    assert "push: void, no figures: two [bold] messages were lost" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / bench.RESULTS).iterdir()] == ["scrape.json"]
    monkeypatch.setattr(sys, "argv", ["bench", "run", "scrape"])
    assert bench.main() == 0
