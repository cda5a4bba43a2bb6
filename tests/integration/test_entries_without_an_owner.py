"""Entries that a stranger gave back with XNACK (Redis 8.8): nobody has them, and they have no idle time.

Few servers have XNACK yet. So they are made of what every server has: a consumer whose name is empty, and the
counter, are real. Replies are turned into those of a server with XNACK: it shows such an entry with an idle
time of -1, and that consumer nowhere.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console
from support_servers import Server
from support_sweep import GROUP, MOST, STREAM, Field

from rsq import Fleet
from rsq.streams.asking import Asker
from rsq.supervisor import checking, stuck

FATAL = 2**63 - 1  # the counter after XNACK FATAL


def as_after_xnack(reply: Any) -> Any:
    """Rows of XPENDING, its summary, and the rows of XINFO CONSUMERS, with no consumer of an empty name."""
    if not isinstance(reply, list) or not reply:
        return reply
    if len(reply) == 4 and isinstance(reply[0], int) and isinstance(reply[3], list):
        return [*reply[:3], [row for row in reply[3] if row[0]]]
    return [_row(row) for row in reply if not (isinstance(row, list) and row[:2] == [b"name", b""])]


def _row(row: Any) -> Any:
    if isinstance(row, list) and len(row) == 4 and row[1] == b"":
        return [row[0], b"", -1, row[3]]
    return row


class Nacked(Field):
    """A group in which entries have no owner."""

    def call(self, *commands: bytes) -> list[Any]:
        return [as_after_xnack(reply) for reply in super().call(*commands)]

    def nack(self, number: int, counter: int) -> list[bytes]:
        """Let entries be without an owner."""
        return self.hold("", number, 0, counter)

    def raw(self) -> dict[bytes, tuple[bytes, int]]:
        """The pending list: id -> owner and counter."""
        rows = self.ask("XPENDING", STREAM, GROUP, "-", "+", 1000)
        return {entry: (owner, counter) for entry, owner, _, counter in rows}


@pytest.fixture
def field(server: Server) -> Iterator[Nacked]:
    made = Nacked(server)
    made.lead()
    yield made
    made.close()


@pytest.mark.parametrize(("counter", "then"), [(0, 0), (2, 2), (MOST, MOST), (FATAL, 0)])
def test_the_sweep_takes_them_over_and_charges_nothing(field: Nacked, counter: int, then: int) -> None:
    field.host("web-1", {0: "idle", 1: "idle"})
    found = field.nack(6, counter)
    field.sweep()
    rows = field.raw()
    assert list(rows) == found
    assert {owner.split(b":")[0] for owner, _ in rows.values()} == {b"web-1"}
    assert {number for _, number in rows.values()} == {then}
    assert field.swept() == {"taken": 6}
    assert not field.letters()


def test_they_do_not_keep_the_sweep_from_those_of_a_lost_host(field: Nacked) -> None:
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    field.nack(3, FATAL)
    field.hold("web-3:0", 2)
    field.die("web-3")
    field.sweep()
    assert {owner.split(b":")[0] for owner, _ in field.raw().values()} == {b"web-1"}
    assert field.swept() == {"taken": 5, "suspects": 2}


def test_they_are_shown_without_an_owner(
    field: Nacked, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By rsq pending, rsq status and rsq check, for people and for programs."""
    first, second = (one.decode() for one in field.nack(1, FATAL) + field.nack(1, 2))
    ask = Asker.ask
    monkeypatch.setattr(
        Asker, "ask", lambda self, *commands: [as_after_xnack(reply) for reply in ask(self, *commands)]
    )
    with Fleet(server.url, STREAM, GROUP) as fleet:
        rows, seen = list(fleet.pending()), fleet.status()
        health = {one.check: one for one in fleet.check().findings}
    assert [(row.id, row.consumer, row.idle_ms) for row in rows] == [(first, "", -1), (second, "", -1)]
    lines = [line.split("\t") for line in stuck.plain(rows, {}, seen.now_ms, heading=False)]
    assert [[line[0], *line[2:]] for line in lines] == [
        [first, "-", "-", "no owner", "?"],
        [second, "-", "-", "no owner", "2"],
    ]
    said = [json.loads(stuck.json_line(row, {}, seen.now_ms)) for row in rows]
    assert [(one["state"], one["untouched_s"], one["attempts"]) for one in said] == [
        ("no owner", None, None),
        ("no owner", None, 2),
    ]
    console = Console(file=io.StringIO(), width=200)
    console.print(stuck.table(rows, {}, seen.now_ms))
    assert (seen.pending, seen.oldest) == (2, rows[0])
    assert health["idle"].grade == checking.Grade.GOOD
    assert health["idle"].text == f"{first} has no owner: the leader takes it over"
