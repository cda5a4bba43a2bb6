"""The examples of these pages run as they stand there, on a real server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support_fleet import GROUP, STREAM, Fleet
from support_servers import Server

from rsq import Breaker
from rsq.streams.letter import write_command
from rsq.worker.breaker import Limits
from rsq.worker.fuse import fuses
from rsq.worker.router import check_routes

DOCS = Path(__file__).parents[2] / "docs"


def run(page: str, server: Server) -> dict[str, Any]:
    """Run the blocks of a page one after the other."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert blocks
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block.replace("redis://localhost:6379/0", server.url), page, "exec"), names)
    return names


def test_pushing(server: Server) -> None:
    run("producer.md", server)
    assert server.client().xlen(STREAM) == 999 + 3 + 1


def test_as_a_library(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    fleet = Fleet(server)
    fleet.live("web-1", slots={0: "idle", 1: "idle"}, ttl_ms=60_000)
    ids = fleet.push(3, age_s=60)
    fleet.read("web-1:0", 2)
    fleet.claim("web-1:0", ids[0], idle_ms=40_000)
    story: dict[str, Any] = {
        "attempts": 3,
        "reason": "max_attempts",
        "error": "ValueError: 7",
        "first_ms": 1,
        "last_ms": 2,
    }
    fleet.call(*write_command(STREAM, f"{STREAM}:dlq", GROUP, "web-1:0", ids[1], **story))
    # The pause is waited for until the instance has reported again, and has nothing busy.
    fleet.die("web-1")
    fleet.report("web-1")
    run("library.md", server)
    shown = capsys.readouterr().out
    assert "ValueError: 7" in shown
    assert "replayed" in shown
    assert "the mail server is down" in shown
    assert "there is no instance web-9" in shown
    assert server.client().xlen(f"{STREAM}:dlq") == 0
    assert server.client().xlen(STREAM) == 4


def test_of_breakers(server: Server) -> None:
    """The router of the page has one, with the defaults that the table says."""
    app = run("breakers.md", server)["app"]
    (fuse,) = fuses(app.routes, 0.0)
    check_routes(app.routes, "page:app")
    assert (fuse.event, fuse.while_open) == (b"mail", "defer")
    assert fuse.limits == Breaker().limits() == Limits(5, 60_000, 30_000, 1)


def test_of_handlers(server: Server) -> None:
    assert "results" in run("testing.md", server)
