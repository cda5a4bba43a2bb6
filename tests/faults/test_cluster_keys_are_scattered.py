"""Names that would put the keys of one group into several hash slots of a cluster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support_topology import Cluster, Everywhere

pytestmark = pytest.mark.every_server

HANDLER = """
    def handle(message):
        started(message)
        if message.data == "bad":
            raise Reject("bad")
        finished(message)
    """


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--dlq", "events:dlq"), "--dlq events:dlq is in another hash slot"),
        (("--dlq", "{other}:dlq"), "choose {events}:dlq"),
        (("--stream", "a{}b", "--dlq", "a{}b:dlq"), "choose {3991}:a{}b.dlq"),
    ],
)
def test_refused_before_anything_is_read(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """One line, exit code 78; no server is needed to know it."""
    for program in ("cli", "operate"):
        words = ["no:handler"] if program == "cli" else ["dlq", "list"]
        url = ("--redis", "redis+cluster://:secret@127.0.0.1:1,127.0.0.1:2")
        done = subprocess.run(
            [sys.executable, "-m", f"rsq.supervisor.{program}", *words, *url, *options],
            cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        assert done.returncode == 78
        (line,) = done.stderr.splitlines()
        assert said in line
        assert "secret" not in line


def test_the_defaults_belong_together(cluster: Cluster, make_everywhere: Callable[..., Everywhere]) -> None:
    """`rsq push`, the pool, `rsq dlq list` and `replay` agree on where everything is."""
    pool = make_everywhere(cluster, HANDLER)
    assert rsq("push", "events", '"good"', '"bad"', "--redis", cluster.url).count("\n") == 2
    assert pool.run() == 0
    good, bad = sorted(pool.entries())
    pool.assert_exact([good, bad], dead={bad: 1})
    assert bad in rsq("dlq", "list", "--redis", cluster.url)
    assert "1 replayed" in rsq("dlq", "replay", "--all", "--redis", cluster.url)
    assert len(pool.entries()) == 3
    assert pool.dead() == {}


def rsq(*words: str) -> str:
    """What the program says."""
    command = [sys.executable, "-m", "rsq.supervisor.operate", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
