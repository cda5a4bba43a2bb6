"""Surveys of groups whose keepers and workers are made by hand, on real servers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import ResponseError
from support_fleet import GROUP, STREAM, Fleet
from support_servers import Server

from rsq.streams import keys
from rsq.streams.asking import Asker
from rsq.streams.fleet import PAUSE, drain_order, report
from rsq.streams.marks import RESTING_MS, SUSPECT_MS
from rsq.streams.orders import Order, Orders, order
from rsq.streams.pending import oldest_first, total
from rsq.streams.survey import LAG_MOST, Survey, known, survey

HOSTILE = "\x1b]0;owned\x07\u202e\udcff [bold]"


@pytest.fixture
def fleet(server: Server) -> Fleet:
    return Fleet(server)


def look(fleet: Fleet, **options: Any) -> Survey:
    return survey(fleet.client, fleet.stream, fleet.group, **options)


def lag_is_known(fleet: Fleet) -> bool:
    """Whether the server itself knows it."""
    ((*pairs,),) = fleet.call("XINFO", "GROUPS", fleet.stream)
    return dict(zip(pairs[::2], pairs[1::2], strict=True)).get(b"lag") is not None


def commands(fleet: Fleet) -> int:
    return int(fleet.client.info("stats")["total_commands_processed"])


def test_a_stream_or_a_group_that_is_not_there_is_no_error(server: Server) -> None:
    nothing = survey(server.client(), "nope", "none")
    assert (nothing.length, nothing.exists, nothing.found, nothing.lag_known) == (None, False, False, True)
    client: Any = server.client()
    client.xadd("events", {"a": "b"})
    other = survey(client, "events", "none")
    assert (other.length, other.exists, other.unread, other.oldest, other.instances) == (
        1,
        False,
        None,
        None,
        (),
    )


def test_a_key_of_another_type_is_an_error(server: Server) -> None:
    server.client().set("events", "no stream")
    with pytest.raises(ResponseError, match=r"WRONGTYPE|wrong kind"):
        survey(server.client(), "events", "workers")


def test_what_waits_and_who_has_it(fleet: Fleet) -> None:
    ids = fleet.push(10, age_s=60)
    fleet.read("web-1:0", 1)
    fleet.read("web-1:1", 2)
    fleet.call("XADD", f"{STREAM}:dlq", "*", "a", "b")
    seen = look(fleet)
    assert (seen.length, seen.pending, seen.lag, seen.lag_known, seen.dead_letters) == (10, 3, 7, True, 1)
    assert seen.last_delivered.encode() == ids[2]
    assert seen.unread is not None
    assert seen.unread.encode() == ids[3]
    assert seen.oldest is not None
    assert (seen.oldest.id.encode(), seen.oldest.consumer) == (ids[0], "web-1:0")
    assert seen.unread_ms is not None
    assert 60_000 <= seen.unread_ms < 120_000
    assert [(one.name, one.pending) for one in seen.consumers] == [("web-1:0", 1), ("web-1:1", 2)]


def test_instances_live_as_long_as_their_lease(fleet: Fleet) -> None:
    fleet.push(3)
    fleet.live("web-2", slots={0: "busy", 1: "down", 7: "idle"})
    fleet.live("web-1")
    fleet.live("gone-1")
    fleet.read("gone-1:3", 2)
    fleet.die("gone-1")
    fleet.lead("web-2")
    first, second, gone = look(fleet).instances
    assert [one.name for one in (first, second, gone)] == ["web-1", "web-2", "gone-1"]
    assert [one.alive for one in (first, second, gone)] == [True, True, False]
    assert gone.pending == 2
    assert [second.slots(state) for state in ("idle", "busy", "down")] == [1, 1, 1]
    assert second.lease_ms is not None
    assert 0 < second.lease_ms <= 15_000
    leader = look(fleet).leader
    assert leader is not None
    assert (leader.is_of("web-2"), leader.is_of("web-"), leader.epoch) == (True, False, 4)


def test_a_consumer_without_an_instance_is_foreign(fleet: Fleet) -> None:
    """`db:1` might be ours by its name; only a report or a lease says that it is."""
    fleet.push(4)
    fleet.live("web-1")
    fleet.live("mute-1")
    fleet.call("HDEL", keys.instances(STREAM, GROUP), "mute-1")
    for name in ("web-1:0", "db:1", "report-tool", "mute-1:0"):
        fleet.read(name, 1)
    seen = look(fleet)
    assert [one.name for one in seen.foreign] == ["db:1", "report-tool"]
    assert [(one.name, one.report is None) for one in seen.instances] == [("mute-1", True), ("web-1", False)]
    assert known(Asker(fleet.client), STREAM, GROUP, ["web-1:0", "db:1", "report-tool"]) == {"web-1": True}


@pytest.mark.parametrize("old", [False, True], ids=["marks", "old-marks"])
def test_held_resting_and_suspect_are_told_apart(fleet: Fleet, old: bool) -> None:
    fleet.old = old
    ids = fleet.push(3)
    fleet.read("web-1:0", 3)
    began = time.monotonic()
    for entry, idle_ms in zip(ids, (5_000, RESTING_MS + 9_000, SUSPECT_MS + 7_000), strict=True):
        fleet.claim("web-1:0", entry, idle_ms=idle_ms)
    found = [row for page in oldest_first(Asker(fleet.client), STREAM, GROUP) for row in page]
    assert [row.state for row in found] == ["held", "resting", "suspect"]
    most_ms = (time.monotonic() - began) * 1000 + 10
    assert all(
        0 <= row.untouched_ms - ms <= most_ms for row, ms in zip(found, (5_000, 9_000, 7_000), strict=True)
    )
    untouched = look(fleet).untouched
    assert untouched is not None
    assert untouched.id.encode() == ids[1]


def test_pending_is_read_in_pages(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = fleet.push(2500)
    fleet.read("web-1:0", 2500)
    fleet.claim("web-1:0", ids[2400], idle_ms=60_000)
    fleet.claim("web-2:0", ids[1700], idle_ms=30_000)
    asker = Asker(fleet.client)

    def listed(**options: Any) -> list[bytes]:
        return [row.id.encode() for page in oldest_first(asker, STREAM, GROUP, **options) for row in page]

    assert listed() == ids
    assert listed(limit=1500) == ids[:1500]
    assert listed(limit=1) == ids[:1]
    assert listed(untouched_ms=20_000) == [ids[1700], ids[2400]]
    assert listed(untouched_ms=20_000, limit=1) == [ids[1700]]
    assert listed(consumer="web-2:0") == [ids[1700]]
    assert total(asker, STREAM, GROUP)[1] == 2500
    assert total(asker, STREAM, "none")[1] is None


def test_the_lag_is_counted_where_the_server_does_not_know_it(fleet: Fleet) -> None:
    fleet.push(LAG_MOST + 500)
    fleet.read("web-1:0", 1)
    fleet.call("XGROUP", "SETID", STREAM, GROUP, fleet.call("XRANGE", STREAM, "-", "+", "COUNT", 3)[-1][0])
    some = look(fleet)  # from 7.0 on, the server has lost count by this
    if lag_is_known(fleet):
        pytest.skip("this server knows the lag all the same")
    assert (some.lag, some.lag_known) == (LAG_MOST, False)
    whole = look(fleet, count_to=5_000)
    assert (whole.lag, whole.lag_known) == (LAG_MOST + 497, True)


def test_counting_stops_at_large_payloads(fleet: Fleet) -> None:
    for _ in range(40):
        fleet.call("XADD", STREAM, "*", "data", b"x" * (1 << 18))
    fleet.read("web-1:0", 1)
    fleet.call("XGROUP", "SETID", STREAM, GROUP, fleet.call("XRANGE", STREAM, "-", "+", "COUNT", 2)[-1][0])
    seen = look(fleet)
    if lag_is_known(fleet):
        pytest.skip("this server knows the lag all the same")
    assert not seen.lag_known
    assert 10 <= seen.lag < 38


def test_it_costs_as_much_with_many_entries_as_with_few(fleet: Fleet) -> None:
    def cost() -> int:
        before = commands(fleet)
        look(fleet)
        return commands(fleet) - before

    fleet.live("web-1")
    few = cost()
    fleet.push(3000)
    fleet.read("web-1:0", 2000)
    # Before 7.0 a script counts the lag, and its own calls are counted here.
    assert cost() - few <= LAG_MOST / 10


def test_it_changes_nothing(fleet: Fleet) -> None:
    fleet.push(20)
    fleet.live("web-1")
    fleet.read("web-1:0", 5)
    keys_before = sorted(fleet.client.keys())
    before = {key: fleet.client.dump(key) for key in keys_before}
    dirty = fleet.client.info("persistence")["rdb_changes_since_last_save"]
    look(fleet)
    assert {key: fleet.client.dump(key) for key in sorted(fleet.client.keys())} == before
    assert fleet.client.info("persistence")["rdb_changes_since_last_save"] == dirty


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"slots":1}', b"\xff", b"[" * 100_000, b"nan"])
def test_a_report_that_cannot_be_read_is_shown_as_none(fleet: Fleet, raw: bytes) -> None:
    fleet.call("HSET", keys.instances(STREAM, GROUP), "web-1", raw)
    fleet.call("HSET", keys.orders(STREAM, GROUP), PAUSE, raw)
    fleet.call("HSET", keys.swept(STREAM, GROUP), "taken", raw)
    fleet.call("SET", keys.leader(STREAM, GROUP), raw)
    seen = look(fleet)
    (one,) = seen.instances
    assert (one.name, one.report, one.alive) == ("web-1", None, False)
    assert seen.pause == Order("unknown", 0.0)
    assert seen.swept == {"taken": 0}
    assert seen.leader is not None
    assert (seen.leader.epoch, seen.leader.left_ms) == (0, None)


def test_numbers_that_json_does_not_have_are_refused(fleet: Fleet) -> None:
    made = fleet.report("web-1")
    assert report(made.encode()) == made
    for value in (math.nan, math.inf):
        assert report(replace(made, beat=value).encode()) is None
        assert report(replace(made, pid=value).encode()) is None  # type: ignore[arg-type]
        assert order(replace(Order("me", 1.0), at=value).encode()) == Order("me", 0.0)


def test_names_come_through_whatever_their_bytes(server: Server) -> None:
    fleet = Fleet(server, HOSTILE, HOSTILE)
    fleet.push(2)
    fleet.live(HOSTILE)
    fleet.read(f"{HOSTILE}:0", 1)
    Orders(fleet.client, HOSTILE, HOSTILE).drain(HOSTILE, Order("me", time.time()))
    (one,) = look(fleet).instances
    assert (one.name, one.alive, one.pending, one.drain is not None) == (HOSTILE, True, 1, True)


@pytest.fixture
def orders(fleet: Fleet) -> Callable[[], dict[str, bytes]]:
    return lambda: {
        name.decode(): value for name, value in fleet.client.hgetall(keys.orders(STREAM, GROUP)).items()
    }


def test_orders_stand_until_they_are_taken_back(fleet: Fleet, orders: Callable[[], dict[str, bytes]]) -> None:
    give, mine = Orders(fleet.client, STREAM, GROUP), Order("me@here", 12.5, "why")
    inbox = keys.inbox(STREAM, GROUP, "web-1")
    assert give.pause(mine, ["web-1"]) is None
    assert orders() == {PAUSE: b'{"by":"me@here","at":12.5,"reason":"why"}'}
    assert fleet.client.lrange(inbox, 0, -1) == [b"orders"]
    assert 0 < fleet.client.ttl(inbox) <= 60
    assert give.pause(Order("another", 13.0), []) == mine
    assert look(fleet).pause == mine
    assert give.resume(["web-1"])
    assert not give.resume([])
    assert fleet.client.llen(inbox) == 2
    assert give.drain("web-1", mine)
    assert not give.drain("web-1", mine)
    assert list(orders()) == [drain_order("web-1")]
    assert give.undrain("web-1")
    assert orders() == {}
    fleet.live("web-1")
    fleet.live("web-2")
    give.scale("web-1", 3, mine)
    assert {one.name: one.size for one in look(fleet).instances} == {"web-1": 3, "web-2": None}


def test_a_slot_is_one_consumer_whatever_rests_there(fleet: Fleet) -> None:
    """And what somebody else has called so is a stranger."""
    fleet.live("web-1")
    ids = fleet.push(6)
    fleet.read("web-1:0", 4)
    fleet.read("mail:1:rest", 1)
    fleet.read("web-1:rest", 1)
    fleet.claim("web-1:0", ids[1], idle_ms=RESTING_MS + 5_000)
    fleet.claim("web-1:0", ids[2], idle_ms=SUSPECT_MS + 5_000)
    fleet.claim("web-1:1", ids[3], idle_ms=RESTING_MS + 5_000)
    seen = look(fleet)
    assert [(one.name, one.pending, one.instance, one.slot) for one in seen.consumers] == [
        ("mail:1:rest", 1, None, None), ("web-1:rest", 1, None, None),
        ("web-1:0", 3, "web-1", 0), ("web-1:1", 1, "web-1", 1),
    ]  # fmt: skip
    assert [(one.name, one.pending) for one in seen.instances] == [("web-1", 4)]
    found = [row for page in oldest_first(Asker(fleet.client), STREAM, GROUP) for row in page]
    shown = [row.among({"web-1"}) for row in found]
    assert [(row.consumer, row.state) for row in shown] == [
        ("web-1:0", "held"), ("web-1:0", "resting"), ("web-1:0", "suspect"), ("web-1:1", "resting"),
        ("mail:1:rest", "held"), ("web-1:rest", "held"),
    ]  # fmt: skip
    mine = [
        row.id
        for page in oldest_first(Asker(fleet.client), STREAM, GROUP, consumer="web-1:0")
        for row in page
    ]
    assert mine == [entry.decode() for entry in ids[:3]]
    few = oldest_first(Asker(fleet.client), STREAM, GROUP, consumer="web-1:0", limit=2)
    assert [row.id for page in few for row in page] == mine[:2]
    theirs = oldest_first(Asker(fleet.client), STREAM, GROUP, consumer="mail:1:rest")
    assert [row.among({"web-1"}).consumer for page in theirs for row in page] == ["mail:1:rest"]
