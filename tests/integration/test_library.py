"""Fleet: what the commands do, as calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError
from support_fleet import GROUP, STREAM
from support_fleet import Fleet as Hand
from support_servers import Server

import rsq
from rsq import Fleet
from rsq.streams import keys
from rsq.streams.letter import write_command
from rsq.supervisor.fleet import Grade, Limits, NoGroup, NoInstance, NotInTime, local_pools


@pytest.fixture
def hand(server: Server) -> Hand:
    """A fleet made by hand: a living instance, one that is gone, and what they hold."""
    made = Hand(server)
    made.live("web-1", ttl_ms=60_000, slots={0: "busy", 1: "idle"})
    made.report("web-3")
    made.push(6, age_s=60)
    made.read("web-1:0", 2)
    made.read("web-3:0", 1)
    return made


@pytest.fixture
def fleet(server: Server, hand: Hand) -> Iterator[Fleet]:
    assert hand.stream == STREAM
    with Fleet(server.url, STREAM, GROUP) as made:
        yield made


def test_it_is_a_name_of_the_package() -> None:
    assert rsq.Fleet is Fleet
    assert all(hasattr(rsq, name) for name in rsq.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Flet'"):
        _ = rsq.Flet


def test_status_and_pending_are_values(fleet: Fleet) -> None:
    seen = fleet.status()
    assert (seen.stream, seen.group, seen.lag, seen.pending) == (STREAM, GROUP, 3, 3)
    assert [one.name for one in seen.living] == ["web-1"]
    rows = list(fleet.pending())
    assert [row.consumer for row in rows] == ["web-1:0", "web-1:0", "web-3:0"]
    assert [row.id for row in fleet.pending(consumer="web-3:0")] == [rows[2].id]
    assert [row.id for row in fleet.pending(limit=1)] == [rows[0].id]
    assert not list(fleet.pending(untouched_s=3600))
    found = fleet.find_pending()
    assert found.total == 3
    assert found.now_ms > rows[0].created_ms
    assert [page.alive for page in found.pages] == [{"web-1": True, "web-3": False}]


def test_a_check_never_raises(fleet: Fleet, server: Server) -> None:
    assert fleet.check().grade is Grade.WARNING  # nobody leads
    health = fleet.check(Limits(lag=1))
    assert [one.check for one in health.findings if one.grade is Grade.WARNING] == ["leader", "lag"]
    with Fleet("redis://127.0.0.1:1", STREAM, GROUP) as nowhere:
        lost = nowhere.check()
        assert (lost.grade, len(lost.findings)) == (Grade.CRITICAL, 1)
        assert "connection refused" in lost.findings[0].text
        with pytest.raises(RedisError) as caught:
            nowhere.status()
        assert nowhere.explain(caught.value).startswith("Redis at redis://127.0.0.1:1: connection refused")


def test_a_pause_is_an_order_with_an_end(fleet: Fleet, hand: Hand) -> None:
    ordered = fleet.pause("too hot", by="me@here")
    assert ordered.new
    assert ordered.order is not None
    assert (ordered.order.by, ordered.order.reason) == ("me@here", "too hot")
    again = fleet.pause("other")
    assert not again.new
    assert again.order == ordered.order
    assert "web-1" in ordered.left()
    with pytest.raises(NotInTime, match="no word yet from web-1"):
        ordered.wait(timeout_s=0.01)

    def tell(words: str) -> None:
        told.append(words)
        hand.report("web-1", slots={0: "busy" if len(told) == 1 else "idle"})

    told: list[str] = []
    ordered.wait(timeout_s=30, tell=tell)
    assert told == ["no word yet from web-1", "1 busy slot"]
    assert fleet.resume().new
    assert not fleet.resume().new


def test_a_drain_is_for_the_living(fleet: Fleet, hand: Hand) -> None:
    with pytest.raises(NoInstance, match="instance web-3 is gone; alive: web-1"):
        fleet.drain("web-3")
    ordered = fleet.drain("web-1")
    assert ordered.new
    assert not fleet.drain("web-1").new
    waiting = threading.Thread(target=ordered.wait)
    waiting.start()
    hand.die("web-1")
    waiting.join()
    assert fleet.undrain("web-1")
    assert not fleet.undrain("web-1")


def test_a_size_is_an_order_too(fleet: Fleet, hand: Hand) -> None:
    ordered = fleet.scale(3, by="me@here")
    assert ordered.order is not None
    assert ordered.order.by == "me@here"
    assert ordered.left() == "web-1 has 2 of 3 workers"
    hand.report("web-1", slots={0: "busy", 1: "idle", 2: "down"})
    assert ordered.left() == "web-1 has 2 of 3 workers"
    hand.report("web-1", slots={0: "busy", 1: "idle", 2: "idle"})
    ordered.wait(timeout_s=1)
    back = fleet.scale(0, ["web-1"])
    assert back.order is None
    assert back.left() == "no word yet from web-1"
    for wrong in (["web-1", "web-9"], ["web-3"]):
        with pytest.raises(NoInstance, match=f"no living instance {wrong[-1]}; alive: web-1"):
            fleet.scale(3, wrong)
    with pytest.raises(ValueError, match="1 to 4096 workers, not 4097"):
        fleet.scale(4097)


def test_a_suggestion_is_a_value(fleet: Fleet, hand: Hand) -> None:
    found = fleet.suggest()
    assert (found.workers, found.backlog) == (2, 3)
    assert fleet.suggest(most=1).wanted == 1
    hand.die("web-1")
    assert (fleet.suggest().decision, fleet.suggest(least=4).wanted) == ("OUT", 4)
    with pytest.raises(NoInstance, match="no instance lives"):
        fleet.scale(3)


def test_no_group_is_an_error_of_its_own(server: Server, hand: Hand) -> None:
    with Fleet(server.url, STREAM, "nope") as fleet:
        for call in (fleet.pause, fleet.resume, fleet.find_pending, fleet.pending, fleet.suggest):
            with pytest.raises(NoGroup, match="no group nope on stream orders"):
                call()
        with pytest.raises(NoGroup):
            fleet.scale(1)
        assert not fleet.status().found
    assert not hand.client.exists(keys.orders(STREAM, "nope"))


def test_dead_letters_and_rights(fleet: Fleet, hand: Hand) -> None:
    (row, *_) = fleet.pending()
    story: dict[str, Any] = {"attempts": 3, "reason": "crash: SIGSEGV", "first_ms": 1, "last_ms": 2}
    hand.call(*write_command(STREAM, fleet.dlq, GROUP, row.consumer, row.id, **story))
    assert fleet.dead_letters.count() == 1
    (letter,) = fleet.dead_letters.iterate(reason="crash")
    assert [one.result for one in fleet.dead_letters.replay([letter.id])] == ["replayed"]
    assert fleet.acl("bob")[:3] == ["ACL", "SETUSER", "bob"]


def test_names_that_a_cluster_would_scatter_are_refused() -> None:
    with pytest.raises(ValueError, match="hash slot"):
        Fleet("redis+cluster://h1", "orders", "mailer", dlq="elsewhere")
    with pytest.raises(ValueError, match="expected redis://"):
        Fleet("http://h1")


def test_pools_of_this_host_need_no_server(tmp_path: Path) -> None:
    assert local_pools(tmp_path) == []
    assert not list(tmp_path.iterdir())
