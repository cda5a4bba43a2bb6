"""A path that has become slower is noticed, by instructions and not by the clock."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rsq.bench import regress
from rsq.bench.answer import Scale

SLOWER = """
from rsq.worker.handler import Handler

quick = Handler.callable

def slower(self, route, limit):
    function = quick(self, route, limit)

    def call(message):
        for _ in range(200):
            pass
        return function(message)

    return call

Handler.callable = slower
"""


@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind counts the instructions")
@pytest.mark.skipif(regress.HERE not in regress.committed(), reason="nothing is committed for this Python")
def test_a_slower_path_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process that is measured finds a patch in its Python path; a target is missed by it."""
    (tmp_path / "sitecustomize.py").write_text(SLOWER)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(regress, "SHORT", 200)
    monkeypatch.setattr(regress, "LONG", 1200)
    found = regress.answer(Scale())
    assert not found.met
    assert "The path changed by +" in found.notes[0]
