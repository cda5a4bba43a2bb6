"""The health check: what is good, what is a warning, what is critical."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rsq.streams.fleet import Report, report
from rsq.streams.idempotence import Memory
from rsq.streams.orders import Order
from rsq.streams.pending import Pending
from rsq.streams.replication import Replication
from rsq.streams.survey import Instance, Leader, Survey
from rsq.supervisor.checking import Finding, Grade, Limits, as_json, cannot_tell, findings, lines, worst

NOW_MS = 1_700_000_000_000
ROW = Pending("1699999000000-0", "web-1:0", 65_000, 1)
WEB = Instance("web-1", Report("h", 1, "1", NOW_MS / 1000 - 600, NOW_MS / 1000, 15.0, {0: "idle"}), 9_000)
WELL = Survey(
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
    leader=Leader("web-1", 7, 9_000),
    epoch=7,
    instances=(WEB,),
)
ANY = Limits()


def graded(seen: Survey, limits: Limits = ANY) -> dict[str, Grade]:
    """What is not good."""
    return {one.check: one.grade for one in findings(seen, limits) if one.grade}


def finding(seen: Survey, check: str, limits: Limits = ANY) -> Finding:
    return next(one for one in findings(seen, limits) if one.check == check)


def test_what_a_keeper_cannot_do_is_a_warning() -> None:
    assert WEB.report is not None
    report = replace(WEB.report, trouble={"breakers": "circuit breakers are as they were: MOVED\x1b"})
    seen = replace(WELL, instances=(replace(WEB, report=report),))
    assert graded(seen) == {"keepers": Grade.WARNING}
    assert finding(seen, "keepers").text.startswith("web-1: circuit breakers are as they were: MOVED")
    assert "\x1b" not in finding(seen, "keepers").text


def test_a_server_that_forgets_no_producer_is_a_warning() -> None:
    found = {one.check: one for one in findings(WELL, ANY, None, Memory(100, 10_001))}
    assert (found["producers"].grade, found["producers"].value) == (Grade.WARNING, 10_001)
    for well in (None, Memory(), Memory(100, 10_000)):
        assert "producers" not in {one.check for one in findings(WELL, ANY, None, well)}


def test_a_primary_that_needs_no_replica_is_told() -> None:
    """It is advice: nothing is wrong today."""
    found = {one.check: one for one in findings(WELL, ANY, Replication(2, guarded=False))}
    assert found["replicas"].grade is Grade.GOOD
    assert "min-replicas-to-write" in found["replicas"].text
    for well in (None, Replication(2, guarded=True)):
        assert "replicas" not in {one.check for one in findings(WELL, ANY, well)}


def test_all_is_well() -> None:
    assert graded(WELL) == {}
    assert worst(findings(WELL, ANY)) == 0
    names = [one.check for one in findings(WELL, ANY)]
    assert names == ["server", "group", "instances", "leader", "lag", "pending", "idle", "dlq"]


@pytest.mark.parametrize(("ago_s", "lost", "told"), [(60, 3, True), (60, 0, False), (7200, 3, False)])
def test_what_was_lost_within_the_hour_is_told(ago_s: int, lost: int, told: bool) -> None:
    assert WEB.report is not None
    said = replace(WEB.report, lost=lost, lost_at=NOW_MS / 1000 - ago_s)
    seen = replace(WELL, instances=(replace(WEB, report=report(said.encode())),))
    assert graded(seen) == ({"lost": Grade.WARNING} if told else {})
    assert not told or "web-1 has lost 3 entries" in finding(seen, "lost").text


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ("lag", Limits(lag=10), Limits(lag=9)),
        ("pending", Limits(pending=5), Limits(pending=4)),
        ("idle", Limits(idle_s=65), Limits(idle_s=64.9)),
        ("dlq", Limits(dlq=3), Limits(dlq=2)),
    ],
)
def test_a_limit_is_the_most_that_is_good(check: str, good: Limits, bad: Limits) -> None:
    assert graded(WELL, good) == {}
    assert graded(WELL, bad) == {check: Grade.WARNING}
    assert "more than" in finding(WELL, check, bad).text


def test_an_unknown_lag_fails_only_with_a_limit() -> None:
    unknown = replace(WELL, lag=1000, lag_known=False)
    assert graded(unknown) == {}
    assert ">=1000 entries unread" in finding(unknown, "lag").text
    assert graded(unknown, Limits(lag=5000)) == {"lag": Grade.WARNING}
    assert "cannot be told" in finding(unknown, "lag", Limits(lag=5000)).text
    assert "more than 10 wanted" in finding(unknown, "lag", Limits(lag=10)).text
    assert finding(unknown, "lag").value is None


def test_nobody_leads() -> None:
    alone = replace(WELL, leader=None)
    assert graded(alone) == {"leader": Grade.WARNING}
    assert WEB.report is not None
    young = replace(WEB, report=replace(WEB.report, started=NOW_MS / 1000 - 29))
    assert graded(replace(alone, instances=(young,))) == {}
    assert graded(replace(alone, instances=(young, replace(WEB, name="web-2")))) == {"leader": Grade.WARNING}


@pytest.mark.parametrize("left_ms", [None, 30_001])
def test_a_lead_that_does_not_run_out_is_a_warning(left_ms: int | None) -> None:
    stuck = replace(WELL, leader=Leader("web-1", 7, left_ms))
    assert graded(stuck) == {"leader": Grade.WARNING}
    assert graded(replace(WELL, leader=Leader("web-1", 7, 30_000))) == {}


def test_nobody_lives() -> None:
    gone = replace(WELL, instances=(replace(WEB, lease_ms=None),))
    assert graded(gone) == {"instances": Grade.CRITICAL}
    assert "the last one went" in finding(gone, "instances").text


@pytest.mark.parametrize("seen", [replace(WELL, exists=False), replace(WELL, length=None, exists=False)])
def test_no_group_is_critical(seen: Survey) -> None:
    assert graded(seen) == {"group": Grade.CRITICAL}
    assert graded(replace(seen, instances=())) == {"group": Grade.CRITICAL, "instances": Grade.CRITICAL}


def test_a_pause_is_told() -> None:
    paused = replace(WELL, pause=Order("ann@ops", NOW_MS / 1000 - 120, "deploy"))
    assert graded(paused) == {}
    assert "paused by ann@ops 2m ago: deploy" in finding(paused, "pause").text


def test_the_first_line_says_what_is_wrong() -> None:
    first, *rest = lines("orders", "mailer", findings(WELL, Limits(lag=1)))
    assert first.startswith("WARNING orders / mailer: 10 entries unread")
    assert rest[0].startswith("warning   lag        10 entries unread")
    assert len(rest) == 8
    (summary, _) = lines("orders", "mailer", cannot_tell("it is\naway"))
    assert summary == "CRITICAL orders / mailer: it is away"


def test_hostile_names_are_harmless() -> None:
    evil = "\x1b[2J\n\u202e\udcff"
    leader = Leader(evil, 1, 5)
    seen = replace(
        WELL,
        stream=evil,
        group=evil,
        dlq=evil,
        leader=leader,
        untouched=replace(ROW, consumer=evil),
        pause=Order(evil, 1.0, evil),
    )
    for line in lines(seen.stream, seen.group, findings(seen, ANY)):
        assert line.isprintable(), line


def test_json_is_stable() -> None:
    value = as_json("orders", "mailer", findings(WELL, Limits(lag=1)))
    assert {key: value[key] for key in ("stream", "group", "status", "code")} == {
        "stream": "orders",
        "group": "mailer",
        "status": "warning",
        "code": 1,
    }
    assert next(one for one in value["findings"] if one["check"] == "lag") == {
        "check": "lag",
        "grade": "warning",
        "text": "10 entries unread, the oldest for 10s, more than 1 wanted",
        "value": 10,
        "limit": 1,
    }
