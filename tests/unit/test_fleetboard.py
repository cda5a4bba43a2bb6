"""The fleet on a terminal of any width, and as JSON; pending entries in words."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from rsq.streams.fleet import Report
from rsq.streams.marks import RESTING_MS, SUSPECT_MS
from rsq.streams.orders import Order
from rsq.streams.pending import Pending
from rsq.streams.survey import Consumer, Instance, Leader, Survey
from rsq.supervisor.fleetboard import FleetBoard, as_json, state
from rsq.supervisor.stuck import cells, json_line

NOW_MS = 1_700_000_000_000
HOSTILE = "\x1b[2J\n[bold]\u202e\udcff"


def instance(name: str, lease_ms: int | None = 9_000, **slots: str) -> Instance:
    states = {int(slot[1:]): doing for slot, doing in slots.items()}
    said = Report(f"{name}.example", 4711, "1.0", NOW_MS / 1000 - 600, NOW_MS / 1000 - 340, 15.0, states)
    return Instance(name, said, lease_ms, pending=2)


ROW = Pending("1699999000000-0", "web-1:0", 1_200, 1)
SEEN = Survey(
    stream="orders",
    group="mailer",
    now_ms=NOW_MS,
    length=100,
    exists=True,
    lag=10,
    lag_known=True,
    pending=5,
    last_delivered="1-1",
    unread="1699999990000-0",
    oldest=ROW,
    untouched=ROW,
    dlq="orders:dlq",
    dead_letters=3,
    leader=Leader("web-2", 7, 9_000),
    epoch=7,
    instances=(
        instance("web-1", s0="busy", s1="busy", s2="idle"),
        instance("web-2", s0="down"),
        instance("gone-1", None, s0="busy"),
    ),
    consumers=(
        Consumer("tool", 3, 1_000),
        Consumer("other", 1, 1_000),
        Consumer("web-1:0", 2, 5, "web-1", 0),
    ),
    swept={"taken": 57, "lost": 0},
)


def printed(seen: Survey, width: int, encoding: str = "utf-8") -> list[str]:
    console = Console(
        width=width, file=io.TextIOWrapper(io.BytesIO(), encoding), highlight=False, color_system=None
    )
    with console.capture() as capture:
        console.print(FleetBoard(seen))
    return [line.rstrip() for line in capture.get().splitlines()]


def row(lines: list[str], first: str) -> str:
    return next(" ".join(line.split()) for line in lines if line.split()[:1] == [first])


def test_everything_is_told_where_there_is_room() -> None:
    lines = printed(SEEN, 120)
    assert lines[0] == "● orders / mailer  2 instances"
    assert row(lines, "leader") == "leader web-2, epoch 7, for 9.0s more"
    assert row(lines, "unread") == "unread lag 10, the oldest is 1699999990000-0, 10s old"
    assert "held, touched 1.2s ago by web-1:0" in row(lines, "pending")
    assert row(lines, "dead") == "dead 3 in orders:dlq: rsq dlq list --stream orders"
    assert row(lines, "swept") == "swept taken 57"
    assert row(lines, "web-1") == "web-1 web-1.example 4711 alive 9.0s 1 2 0 2 1.0"
    assert row(lines, "web-2") == "web-2 (leader) web-2.example 4711 alive 9.0s 0 0 1 2 1.0"
    assert row(lines, "gone-1") == "gone-1 gone-1.example 4711 gone 6m - - - - 2 1.0"
    assert row(lines, "2") == "2 other consumers foreign 4"


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 120, 200])
def test_rows_are_never_wrapped(width: int) -> None:
    lines = printed(SEEN, width)
    assert all(cell_len(line) <= width for line in lines)
    assert sum("web-1" in line and "web-1:0" not in line for line in lines) == 1
    assert ("alive" in row(lines, "web-1")) is (width >= 30)


def test_a_terminal_without_unicode_gets_none() -> None:
    assert printed(SEEN, 80, "ascii")[0].startswith("* orders / mailer")


def test_what_is_wrong_stands_in_the_title() -> None:
    order = Order("ann@ops", NOW_MS / 1000 - 60, "deploy")
    for seen, words in (
        (replace(SEEN, pause=order), "paused, 2 instances"),
        (replace(SEEN, instances=SEEN.instances[2:]), "no living instance"),
        (replace(SEEN, exists=False), "there is no such group"),
        (replace(SEEN, length=None, exists=False, instances=(), consumers=()), "there is no such stream"),
    ):
        assert printed(seen, 100)[0].endswith(words)
    assert "by ann@ops 60s ago: deploy" in " ".join(printed(replace(SEEN, pause=order), 100)[1].split())
    assert "none; the last epoch was 7" in printed(replace(SEEN, leader=None), 100)[1]
    assert "lag >=1000" in " ".join(printed(replace(SEEN, lag=1000, lag_known=False), 100))
    draining = replace(SEEN.instances[0], drain=order)
    assert row(printed(replace(SEEN, instances=(draining,)), 120), "web-1").split()[3] == "draining"
    for size, words in ((3, "alive, 3 by hand"), (0, "alive"), (None, "alive")):
        lines = printed(replace(SEEN, instances=(replace(SEEN.instances[0], size=size),)), 120)
        assert " ".join(row(lines, "web-1").split()[3:]).startswith(f"{words} "), size


def test_hostile_names_are_harmless() -> None:
    evil = Report(HOSTILE, 1, HOSTILE, 1.0, 2.0, 15.0, {0: HOSTILE})
    seen = replace(
        SEEN,
        stream=HOSTILE,
        group=HOSTILE,
        dlq=HOSTILE,
        leader=Leader(HOSTILE, 1, None),
        pause=Order(HOSTILE, 1.0, HOSTILE),
        oldest=replace(ROW, consumer=HOSTILE),
        instances=(Instance(HOSTILE, evil, 5, drain=Order(HOSTILE, 1.0)),),
        consumers=(Consumer(HOSTILE, 1, 1),),
        swept={HOSTILE: 1},
    )
    for line in printed(seen, 120):
        assert line.isprintable(), line
        line.encode()
    assert json.dumps(as_json(seen), ensure_ascii=False, allow_nan=False).encode()
    assert all(cell.isprintable() for cell in cells(replace(ROW, consumer=f"{HOSTILE}:0"), {}, NOW_MS))


def test_json_has_these_keys() -> None:
    value = as_json(SEEN)
    assert list(value) == [
        "stream", "group", "stream_exists", "group_exists", "length", "lag", "lag_known", "pending",
        "last_delivered", "oldest_unread", "oldest_pending", "untouched_s", "dlq", "dead_letters", "leader",
        "epoch", "paused", "swept", "breakers", "instances", "consumers",
    ]  # fmt: skip
    assert value["oldest_pending"] == {
        "id": "1699999000000-0",
        "age_s": 1000.0,
        "consumer": "web-1:0",
        "state": "held",
        "untouched_s": 1.2,
        "attempts": 1,
    }
    assert value["instances"][1] == {
        "name": "web-2",
        "alive": True,
        "leader": True,
        "lease_left_s": 9.0,
        "host": "web-2.example",
        "pid": 4711,
        "version": "1.0",
        "started": NOW_MS / 1000 - 600,
        "last_report": NOW_MS / 1000 - 340,
        "lease_s": 15.0,
        "slots": {"0": "down"},
        "pending": 2,
        "drain": None,
        "workers_ordered": None,
    }
    assert value["consumers"][0] == {
        "name": "tool",
        "pending": 3,
        "idle_s": 1.0,
        "instance": None,
        "slot": None,
    }
    assert set(as_json(replace(SEEN, oldest=None, unread=None, leader=None))) == set(value)


def test_idle_times_that_are_marks_are_words() -> None:
    assert state(replace(ROW, idle_ms=12_000)) == "held, touched 12s ago"
    assert state(replace(ROW, idle_ms=RESTING_MS + 12_000)) == "rests for 12s"
    assert state(replace(ROW, idle_ms=SUSPECT_MS)) == "suspect for 0.0s"


def test_an_owner_is_alive_or_gone_or_foreign() -> None:
    alive = {"web-1": True, "web-2": False}
    shown = [
        cells(replace(ROW, consumer=name), alive, NOW_MS)[3]
        for name in ("web-1:0", "web-2:1", "db:1", "tool")
    ]
    assert shown == ["alive", "gone", "foreign", "foreign"]
    assert json.loads(json_line(ROW, alive, NOW_MS)) == {
        "id": "1699999000000-0",
        "age_s": 1000.0,
        "consumer": "web-1:0",
        "state": "held",
        "untouched_s": 1.2,
        "attempts": 1,
        "instance": "web-1",
        "slot": 0,
        "alive": True,
    }
