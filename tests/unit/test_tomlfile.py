"""The settings file: one pool, or several in tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsq.supervisor.tomlfile import read

KNOWN = {"stream", "workers", "batch_max", "redis", "redis_file", "metrics", "log_level", "stop_when_empty"}


def _read(tmp_path: Path, words: str) -> tuple[object, list[dict[str, object]]]:
    (tmp_path / "f.toml").write_text(words)
    shared, pools = read(str(tmp_path / "f.toml"), KNOWN)
    return dict(shared), [dict(pool) for pool in pools]


def test_without_tables(tmp_path: Path) -> None:
    assert _read(tmp_path, "workers = 3\nbatch-max = 5\n") == ({"workers": 3, "batch_max": 5}, [])
    assert _read(tmp_path, "") == ({}, [])


def test_what_stands_above_the_tables_holds_for_all(tmp_path: Path) -> None:
    words = 'workers = 3\nmetrics = "off"\n[[pool]]\nstream = "a"\n[[pool]]\nstream = "b"\nworkers = 5\n'
    shared, pools = _read(tmp_path, words)
    assert shared == {"workers": 3, "metrics": "off"}
    assert pools == [
        {"stream": "a", "workers": 3, "metrics": "off"},
        {"stream": "b", "workers": 5, "metrics": "off"},
    ]


def test_the_nearer_url_holds(tmp_path: Path) -> None:
    """Else a table could not say where its pool is when the others have it from a file."""
    words = 'redis-file = "/f"\n[[pool]]\nredis = "redis://h"\n[[pool]]\nstream = "b"\n'
    assert _read(tmp_path, words)[1] == [{"redis": "redis://h"}, {"redis_file": "/f", "stream": "b"}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("[pool]\nworkers = 3", "pools are written as [[pool]] tables"),
        ("pool = 3", "pools are written as [[pool]] tables"),
        ("pool = [3]", "pools are written as [[pool]] tables"),
        ("wokers = 3", "f.toml: there is no setting 'wokers'"),
        ("[[pool]]\n[[pool]]\nwokers = 3", "f.toml: [[pool]] 2: there is no setting 'wokers'"),
        ("[[pool]]\nworkers = [3]", "[[pool]] 1: workers must be a single value"),
        (
            "[[pool]]\nlog-level = 'info'",
            "[[pool]] 1: log-level is one for all pools: write it above",
        ),
        ("workers = ", "is not TOML"),
    ],
)
def test_what_is_wrong(tmp_path: Path, words: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        _read(tmp_path, words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"f\.toml cannot be read"):
        read(str(tmp_path / "f.toml"), KNOWN)
