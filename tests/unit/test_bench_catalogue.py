"""Every bench asks a question and can answer it; every adapter can be read without its peer."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import rsq.bench
from rsq.bench.adapters import NAMES as PEERS
from rsq.bench.catalogue import NAMES, bench

BENCH = Path(rsq.bench.__file__).resolve().parent


@pytest.mark.parametrize("name", NAMES)
def test_a_bench_has_what_the_harness_needs(name: str) -> None:
    assert bench(name).QUESTION.endswith("?")
    assert callable(bench(name).answer)


def test_every_adapter_is_named() -> None:
    found = {path.stem for path in (BENCH / "adapters").glob("*.py")} - {"__init__", "__main__", "account"}
    assert found == {*PEERS, "bare"}


@pytest.mark.parametrize("name", PEERS)
def test_an_adapter_needs_nothing_but_the_standard_library(name: str) -> None:
    """It runs in the peer's environment, where nothing of ours may be; and is read here, without the peer."""
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", f"import adapters.{name}"],
        env={"PYTHONPATH": str(BENCH)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", PEERS)
def test_an_adapter_says_what_it_measures(name: str) -> None:
    adapter = importlib.import_module(f"rsq.bench.adapters.{name}")
    assert {"default"} <= set(adapter.MESSAGES) <= set(adapter.SETTINGS)
    assert getattr(adapter, "QUICK", "default") in adapter.SETTINGS
    assert adapter.PACKAGES
    assert isinstance(adapter.CANNOT, str)
    assert callable(adapter.send)
    assert callable(adapter.work)
