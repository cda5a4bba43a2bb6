"""The keeper's script, on real servers."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
import redis
from support_servers import Server

from rsq.streams import beat, keys, marks
from rsq.streams.entry import parse_id
from rsq.streams.fleet import drain_order
from rsq.streams.group import Group, Pending, pending_rows
from rsq.streams.marks import RESTING_MS, Mark

STREAM, GROUP = "events", "workers"
LEASE_MS = 60_000  # no lease runs out, and nothing grows old enough to be renewed, while a test stands still
WHO = beat.Who(STREAM, GROUP, "web-1", "abc", "host-1 pid 7", LEASE_MS, ("taken", "lost"))
OTHER = beat.Who(STREAM, GROUP, "web-1", "def", "host-2 pid 8", LEASE_MS, ("taken", "lost"))
SECOND = beat.Who(STREAM, GROUP, "web-2", "ghi", "host-2 pid 9", LEASE_MS, ("taken", "lost"))


@pytest.fixture
def client(server: Server) -> redis.Redis:
    made = server.client()
    made.xgroup_create(STREAM, GROUP, "0", mkstream=True)
    return made


def ask(client: redis.Redis, packed: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(packed)
    return client.execute_command(*reader.gets())  # type: ignore[no-untyped-call]


def say(
    client: redis.Redis,
    who: beat.Who = WHO,
    slots: tuple[int, ...] = (0, 1),
    gone: tuple[int, ...] = (),
    page: tuple[int, bytes] = beat.START,
) -> beat.Beat:
    return beat.parse(ask(client, beat.beat(who, b"{}", slots, gone, page)))


def hold(client: redis.Redis, consumer: str, count: int, idle_ms: int = 0) -> list[bytes]:
    """Let a consumer have new entries, idle for so long."""
    ids: list[Any] = [client.xadd(STREAM, {"n": n}) for n in range(count)]
    client.xreadgroup(GROUP, consumer, {STREAM: ">"}, count=count)
    client.xclaim(STREAM, GROUP, consumer, 0, ids, idle=idle_ms, justid=True)
    return ids


def look(client: redis.Redis, consumer: str) -> list[Pending]:
    """What a slot has, in the order of ids."""
    found = [
        pending_rows(ask(client, Group(STREAM, GROUP, "").pending(owner, b"-", 100_000)))
        for owner in marks.owners(consumer)
    ]
    return sorted((row for rows in found for row in rows), key=lambda row: parse_id(row.entry))


def idle(client: redis.Redis, consumer: str) -> list[int]:
    """For how long what a slot holds was not touched."""
    return [row.idle_ms for row in look(client, consumer) if not row.rests]


def marked(client: redis.Redis, consumer: str) -> list[Mark]:
    return [row.reading.mark for row in look(client, consumer)]


def counters(client: redis.Redis, consumer: str) -> set[int]:
    return {row.counter for row in look(client, consumer)}


def rest(client: redis.Redis, consumer: str, count: int, *, suspect: bool = False) -> list[bytes]:
    """Let new entries rest at a slot."""
    ids = hold(client, consumer, count)
    ask(client, Group(STREAM, GROUP, consumer).hand_back(dict.fromkeys(ids, 0), suspect=suspect))
    return ids


def test_the_lease_is_taken_and_gone_on_with(client: redis.Redis) -> None:
    first = say(client)
    assert (first.lease.held, first.lease.unbroken, first.lease.epoch) == (True, False, 1)
    assert first.lead is not None
    assert (first.lead.held, first.lead_epoch) == (True, 2)
    client.pexpire(keys.lease(STREAM, GROUP, "web-1"), LEASE_MS // 3)
    again = say(client)
    assert (again.lease.held, again.lease.unbroken, again.lease.epoch) == (True, True, 1)
    assert client.pttl(keys.lease(STREAM, GROUP, "web-1")) > LEASE_MS // 2
    client.delete(keys.lease(STREAM, GROUP, "web-1"))
    anew = say(client)
    assert (anew.lease.held, anew.lease.unbroken, anew.lease.epoch) == (True, False, 3)


def test_who_does_not_hold_the_lease_does_nothing_else(client: redis.Redis) -> None:
    say(client)
    ids = hold(client, "web-1:0", 1, idle_ms=60_000)
    said = say(client, OTHER, gone=(1,))
    assert not said.lease.held
    assert said.lease.holder == "host-1 pid 7"
    assert 0 < said.lease.left_ms <= LEASE_MS
    assert said.lead is None
    assert idle(client, "web-1:0")[0] >= 60_000, ids


def test_one_leads_and_the_others_look(client: redis.Redis) -> None:
    say(client)
    second = say(client, SECOND)
    assert second.lead is not None
    assert (second.lease.held, second.lead.held, second.lead.holder, second.lead_epoch) == (
        True, False, "web-1", 2,
    )  # fmt: skip
    for packed in beat.release(WHO):
        assert ask(client, packed) == 1
    second = say(client, SECOND)
    assert second.lead is not None
    assert (second.lead.held, second.lead_epoch) == (True, 4)
    for packed in beat.release(WHO):
        assert ask(client, packed) == 0, "it is another's by now"


def test_orders_and_what_was_swept(client: redis.Redis) -> None:
    assert (say(client).pause, say(client).drain, say(client).swept) == (None, None, (0, 0))
    client.hset(keys.orders(STREAM, GROUP), "pause", '{"by":"me"}')
    client.hset(keys.orders(STREAM, GROUP), drain_order("web-1"), "now")
    client.hset(keys.swept(STREAM, GROUP), "lost", 3)
    said = say(client)
    assert (said.pause, said.drain, said.swept) == (b'{"by":"me"}', b"now", (0, 3))
    assert say(client, SECOND).drain is None
    ask(client, beat.forget_order(WHO))
    assert say(client).drain is None
    assert client.hgetall(keys.instances(STREAM, GROUP)) == {b"web-1": b"{}", b"web-2": b"{}"}


def test_what_was_held_for_long_is_renewed_and_nothing_else(client: redis.Redis) -> None:
    """Not what is young, not what rests, and nothing of others; delivery counters stay."""
    hold(client, "web-1:0", 2, idle_ms=60_000)
    hold(client, "web-1:1", 2, idle_ms=500)
    hold(client, "web-1:1", 2, idle_ms=RESTING_MS)
    rest(client, "web-1:1", 2)
    rest(client, "web-1:1", 1, suspect=True)
    hold(client, "web-2:0", 2, idle_ms=60_000)
    answer = say(client)
    assert answer.resting == (0, 5)
    assert answer.more is None
    assert max(idle(client, "web-1:0")) < 5000
    assert all(500 <= idle_ms < 60_000 for idle_ms in idle(client, "web-1:1"))
    assert marked(client, "web-1:1") == [Mark.HELD] * 2 + [Mark.RESTING] * 4 + [Mark.SUSPECT]
    assert min(idle(client, "web-2:0")) >= 60_000
    assert counters(client, "web-1:0") == {1}


def test_a_slot_without_a_process_is_let_go(client: redis.Redis) -> None:
    hold(client, "web-1:0", 2)
    hold(client, "web-1:1", 3)
    hold(client, "web-1:1", 1, idle_ms=RESTING_MS)
    rest(client, "web-1:1", 1)
    answer = say(client, slots=(0,), gone=(1,))
    assert (answer.resting, answer.let_go) == ((0,), (3,))
    assert marked(client, "web-1:1") == [Mark.SUSPECT] * 3 + [Mark.RESTING] * 2
    assert max(idle(client, "web-1:0")) < 5000
    assert counters(client, "web-1:1") == {1, 0}
    assert say(client, slots=(0,), gone=(1,)).let_go == (0,)


def test_many_entries_are_renewed_page_by_page(client: redis.Redis) -> None:
    """However they lie, each of them once."""
    hold(client, "web-1:2", 5)
    hold(client, "web-1:0", beat.PAGE - 1, idle_ms=60_000)
    hold(client, "web-1:1", 2 * beat.PAGE + 3, idle_ms=60_000)
    pages, page = 0, beat.START
    let_go = 0
    while True:
        said = say(client, slots=(0, 1), gone=(2,), page=page)
        pages += 1
        let_go += said.let_go[0]
        if said.more is None:
            break
        page = said.more
        assert pages < 10
    assert pages == 4
    assert let_go == 5
    assert max(idle(client, "web-1:0") + idle(client, "web-1:1")) < 30_000
    assert marked(client, "web-1:2") == [Mark.SUSPECT] * 5


def test_a_stream_that_is_gone_does_not_cost_the_lease(client: redis.Redis) -> None:
    client.delete(STREAM)
    said = say(client)
    assert said.lease.held
    assert said.trouble.startswith("NOGROUP")
    client.set(STREAM, "no stream")
    assert say(client).trouble.startswith("WRONGTYPE")


def test_a_server_that_is_full_does_not_cost_the_lease(client: redis.Redis) -> None:
    say(client)
    client.config_set("maxmemory", 1)
    try:
        said = say(client)
        assert (said.lease.held, said.lease.unbroken) == (True, True)
    finally:
        client.config_set("maxmemory", 0)


def test_deleted_entries_of_a_slot_that_is_let_go_are_counted_where_a_claim_drops_them(
    client: redis.Redis,
) -> None:
    ids = hold(client, "web-1:1", 3)
    client.xdel(STREAM, ids[1])
    answer = say(client, slots=(), gone=(1,))
    left = len(look(client, "web-1:1"))
    assert answer.let_go[0] == left
    assert say(client, slots=()).swept == (0, 3 - left)


def test_nobodys_entry_is_owned_by_us(client: redis.Redis) -> None:
    mine, theirs = hold(client, "web-1:0", 1)[0], hold(client, "web-2:0", 1)[0]
    resting = [*rest(client, "web-1:0", 1), *rest(client, "web-1:0", 1, suspect=True)]
    for entry in (mine, *resting):
        assert beat.is_of(ask(client, beat.owner(STREAM, GROUP, entry)), "web-1:0")
    for entry in (theirs, b"1-1"):
        assert not beat.is_of(ask(client, beat.owner(STREAM, GROUP, entry)), "web-1:0")


def test_a_word_in_the_inbox(client: redis.Redis) -> None:
    assert beat.heard(ask(client, beat.listen(WHO, 0.01))) is None
    client.rpush(keys.inbox(STREAM, GROUP, "web-1"), "3")
    assert beat.heard(ask(client, beat.listen(WHO, 1))) == b"3"


def test_what_waits_in_a_slot_without_a_process_rests_uncharged(client: redis.Redis) -> None:
    """It was not started: other slots go on with the attempt that came next."""
    ids = hold(client, "web-1:1", 3)
    ask(client, Group(STREAM, GROUP, "web-1:1").let_wait({ids[0]: (3, 60.0), ids[1]: (1, 0.0)}))
    assert say(client, slots=(0,), gone=(1,)).let_go == (1,)
    found = [(row.reading.mark, row.counter) for row in look(client, "web-1:1")]
    assert found == [(Mark.RESTING, 2), (Mark.RESTING, 0), (Mark.SUSPECT, 1)]
