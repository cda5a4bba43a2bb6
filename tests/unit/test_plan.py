"""Whose entries may be taken, and who gets them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.streams.fleet import Report
from rsq.streams.group import Pending
from rsq.streams.marks import RESTING_MS, SUSPECT_MS, Mark
from rsq.streams.sweeping import Claim, Target
from rsq.supervisor.plan import IDLE_SHARE, SHARES_MAX, Owner, Ring, Stand, instances, owners, split

LEASE_S, TTL_S = 15.0, 3600.0


def _report(slots: dict[int, str], lease_s: float = LEASE_S) -> Report:
    return Report("h", 1, "0", 0.0, 0.0, lease_s, slots)


def _owner(name: bytes, reports: dict[str, Report | None], alive: set[str]) -> Owner:
    row: dict[bytes, Any] = {b"name": name, b"pending": 3, b"idle": 7}
    (found,) = owners([row], reports, alive, LEASE_S, TTL_S)
    return found


@pytest.mark.parametrize(
    ("name", "stand", "gone", "held_ms", "rested_ms"),
    [
        (b"live:0", Stand.IDLE, False, -1, 2**41),
        (b"live:1", Stand.BUSY, False, -1, 5000),
        (b"live:2", Stand.BUSY, False, -1, 5000),
        (b"live:3", Stand.CLOSED, False, -1, 5000),
        (b"unread:0", Stand.BUSY, False, -1, 5000),
        (b"lost:0", Stand.LOST, True, 15_000, 0),
        (b"slow:0", Stand.LOST, True, 60_000, 0),
        (b"never:0", Stand.STRANGER, True, 3_600_000, 0),
        (b"live:01", Stand.STRANGER, False, 3_600_000, 0),
        (b"cron", Stand.STRANGER, False, 3_600_000, 0),
        (b"\xff:" + b"9" * 5000, Stand.STRANGER, False, 3_600_000, 0),
    ],
)
def test_every_owner_has_its_ground(
    name: bytes, stand: Stand, gone: bool, held_ms: int, rested_ms: int
) -> None:
    """The lease of an instance counts, not what it said last; a longer lease than ours is respected."""
    reports: dict[str, Report | None] = {
        "live": _report({0: "idle", 1: "busy", 2: "down"}),
        "unread": None,
        "lost": _report({0: "idle"}),
        "slow": _report({0: "idle"}, 60.0),
    }
    found = _owner(name, reports, {"live", "unread"})
    assert found.stand is stand
    assert (found.claim.must_be_gone, found.claim.held_ms, found.claim.rested_ms) == (
        gone,
        held_ms,
        rested_ms,
    )
    assert (found.name, found.pending, found.idle_ms) == (name, 3, 7)


def test_every_instance_that_may_have_a_lease_is_asked_for() -> None:
    rows = [{b"name": name} for name in (b"a:0", b"a:1", b"b:0", b"cron", b":1")]
    assert instances(rows, {"c"}) == ["a", "b", "c"]


def row(entry: bytes, idle: int, counter: int) -> Pending:
    return Pending(entry, b"x:0", idle, counter)


def test_a_page_is_split_by_what_becomes_of_it() -> None:
    rows = [
        row(b"1-0", 14_999, 3), row(b"2-0", 15_000, 1), row(b"3-0", 15_000, 3), row(b"4-0", RESTING_MS, 3),
        row(b"5-0", SUSPECT_MS, 2), row(b"6-0", SUSPECT_MS, 3), row(b"7-0", -1, 1),
    ]  # fmt: skip
    lost = Claim(b"x:0", "x", True, 15_000, 0)
    assert split(rows, lost, 3) == ([b"4-0", b"7-0"], [b"2-0", b"5-0"], [b"3-0", b"6-0"])
    busy = Claim(b"x:0", "x", False, -1, 5000)
    assert split(rows, busy, 3) == ([b"7-0"], [], [b"6-0"])
    rows = [row(b"1-0", RESTING_MS + 5000, 1), row(b"2-0", SUSPECT_MS + 5000, 1)]
    assert split(rows, busy, 3) == ([b"1-0"], [b"2-0"], [])


def test_a_page_of_an_owner_with_a_mark_is_split_by_that() -> None:
    """Its idle time says only for how long."""
    rows = [row(b"1-0", 4_999, 3), row(b"2-0", 5_000, 2), row(b"3-0", 5_000, 3)]
    lost = Claim(b"x:0:rest", "x", True, 15_000, 0, Mark.RESTING)
    assert split(rows, lost, 3) == ([b"1-0", b"2-0", b"3-0"], [], [])
    assert split(rows, replace(lost, rested_ms=5_000), 3) == ([b"2-0", b"3-0"], [], [])
    suspect = Claim(b"x:0:suspect", "x", False, -1, 5_000, Mark.SUSPECT)
    assert split(rows, suspect, 3) == ([], [b"2-0"], [b"1-0", b"3-0"])


@pytest.mark.parametrize(
    ("name", "stand", "mark"),
    [
        (b"live:0:rest", Stand.IDLE, Mark.RESTING),
        (b"live:1:suspect", Stand.BUSY, Mark.SUSPECT),
        (b"live:7:rest", Stand.CLOSED, Mark.RESTING),
        (b"lost:0:suspect", Stand.LOST, Mark.SUSPECT),
        (b"never:0:rest", Stand.STRANGER, Mark.HELD),
        (b"live:rest", Stand.STRANGER, Mark.HELD),
        (b"live:00:rest", Stand.STRANGER, Mark.HELD),
        (b"live:0:rests", Stand.STRANGER, Mark.HELD),
        (b"live:0:rest:rest", Stand.STRANGER, Mark.HELD),
    ],
)
def test_an_owner_with_a_mark_stands_where_its_slot_does(name: bytes, stand: Stand, mark: Mark) -> None:
    """A stranger may have chosen such a name: what it has is its own, until it is old enough."""
    reports: dict[str, Report | None] = {"live": _report({0: "idle", 1: "busy"}), "lost": _report({})}
    found = _owner(name, reports, {"live"})
    assert (found.stand, found.claim.mark) == (stand, mark)


def _ring(idle: int, busy: int) -> Ring:
    states = (
        dict.fromkeys(range(idle), "idle") | dict.fromkeys(range(idle, idle + busy), "busy") | {999: "down"}
    )
    ring = Ring()
    ring.set({"a": _report(states), "gone": _report({0: "idle"}), "unread": None}, {"a", "unread"})
    return ring


@given(
    st.integers(0, 40),
    st.integers(0, 40),
    st.lists(st.tuples(st.integers(0, 600), st.booleans()), min_size=1, max_size=8),
)
def test_everything_is_shared_out_once_and_in_order(
    idle: int, busy: int, pages: list[tuple[int, bool]]
) -> None:
    ring = _ring(idle, busy)
    for number, idle_only in pages:
        ids = [b"%06d-0" % at for at in range(number)]
        shares = ring.share(ids, idle_only=idle_only)
        if ids and (idle or (busy and not idle_only)):
            assert [entry for _, part in shares for entry in part] == ids
            assert len({slot for slot, _ in shares}) == len(shares) <= SHARES_MAX
            assert all(slot.instance == "a" and slot.slot < idle + busy for slot, _ in shares)
            sizes = [len(part) for _, part in shares]
            assert min(sizes) >= 1
            assert max(sizes) - min(sizes) <= 1
            if idle_only or (idle and number <= IDLE_SHARE * idle):
                assert all(slot.slot < idle for slot, _ in shares)
        else:
            assert shares == []


@given(st.integers(1, 40), st.lists(st.integers(1, 7), min_size=40, max_size=60))
def test_over_time_everybody_gets_the_same(idle: int, pages: list[int]) -> None:
    ring, got = _ring(idle, 0), dict.fromkeys(range(idle), 0)
    for number in pages:
        for slot, part in ring.share([b"%d-0" % at for at in range(number)], idle_only=False):
            got[slot.slot] += len(part)
    assert max(got.values()) - min(got.values()) <= 1 + max(pages) // idle


def test_an_instance_found_gone_gets_nothing_more() -> None:
    ring = _ring(2, 2)
    assert ring.share([b"1-0"], idle_only=False) == [(Target("a", 0), [b"1-0"])]
    ring.without("a")
    assert ring.share([b"1-0"], idle_only=False) == []
