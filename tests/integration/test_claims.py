"""What may be said about a pending entry, and by whom: the scripts of claims and late acknowledgements."""

from __future__ import annotations

from typing import Any

import pytest
from support_servers import Server

from rsq.streams import keys
from rsq.streams.group import Claimed, Group, Pending, merged, pack, pending_rows, taken
from rsq.streams.lease import Term, acquire, release, term
from rsq.streams.marks import RESTING_MS, SUSPECT_MS
from rsq.streams.once import Marks, Row
from rsq.streams.waiting import Wait

STREAM, GROUP = "events", "workers"
US, THEM = "web-1:0", "web-2:0"


class Bench:
    """A group with one entry in our hands."""

    def __init__(self, server: Server) -> None:
        self.redis: Any = server.client()
        self.us, self.them = Group(STREAM, GROUP, US), Group(STREAM, GROUP, THEM)
        self.redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        self.entry = self.add()

    def add(self) -> bytes:
        entry: bytes = self.redis.xadd(STREAM, {"data": "1"})
        self.redis.execute_command("XREADGROUP", "GROUP", GROUP, US, "STREAMS", STREAM, ">")
        return entry

    def run(self, packed: bytes) -> Any:
        """Send a packed command as it is, on a line without redis-py's idea of replies."""
        connection = self.redis.connection_pool.get_connection()
        try:
            connection.send_packed_command([packed])
            return connection.read_response()
        finally:
            self.redis.connection_pool.release(connection)

    def rests(self) -> list[Pending]:
        """What rests of ours."""
        return merged(map(self.run, self.us.resting(10)))

    def consumers(self) -> set[str]:
        return {row["name"].decode() for row in self.redis.xinfo_consumers(STREAM, GROUP)}

    def row(self) -> Pending | None:
        found = pending_rows(self.run(pack("XPENDING", STREAM, GROUP, self.entry, self.entry, 1)))
        return found[0] if found else None


@pytest.fixture
def bench(server: Server) -> Bench:
    return Bench(server)


def test_a_claim_brings_the_payload_and_sets_the_counter(bench: Bench) -> None:
    ((entry, fields),) = bench.run(bench.us.claim({bench.entry: 3}))
    assert (entry, fields) == (bench.entry, [b"data", b"1"])
    row = bench.row()
    assert row is not None
    assert (row.consumer, row.counter) == (US.encode(), 3)


def test_what_belongs_to_another_is_neither_claimed_nor_counted_nor_handed_back(bench: Bench) -> None:
    before = bench.row()
    assert before is not None
    for command in (
        bench.them.claim({bench.entry: 9}),
        bench.them.set_counters({bench.entry: 9}),
        bench.them.take({bench.entry: 9}),
        bench.them.hand_back({bench.entry: 9}),
        bench.them.claim_suspect(bench.entry, 9),
    ):
        assert bench.run(command) == [Claimed.NOT_OURS]
    after = bench.row()
    assert after is not None
    assert (after.consumer, after.counter, after.rests) == (before.consumer, before.counter, False)


def test_a_late_acknowledgement_takes_only_what_is_still_ours(bench: Bench) -> None:
    other = bench.add()
    bench.run(pack("XCLAIM", STREAM, GROUP, THEM, 0, other))
    assert bench.run(bench.us.ack_own([bench.entry, other, b"1-1"])) == 1
    assert bench.row() is None
    assert bench.redis.xpending(STREAM, GROUP)["pending"] == 1


@pytest.mark.parametrize("old", [False, True], ids=["mark", "old-mark"])
@pytest.mark.parametrize("suspect", [False, True])
def test_what_was_handed_back_rests_until_it_is_taken(bench: Bench, suspect: bool, old: bool) -> None:
    """Its owner says so; of what a version before has handed back, an idle time that no clock reaches."""
    assert bench.run(bench.us.take({bench.entry: 2})) == [Claimed.NOT_OURS], "it is in somebody's hand"
    if not old:
        assert bench.run(bench.us.hand_back({bench.entry: 1}, suspect=suspect)) == [Claimed.DONE]
    else:
        rest = {"idle": SUSPECT_MS if suspect else RESTING_MS, "retrycount": 1, "justid": True}
        bench.redis.xclaim(STREAM, GROUP, US, 0, [bench.entry], **rest)
    (row,) = bench.rests()
    assert (row.slot, row.rests, row.is_suspect, row.counter) == (US.encode(), True, suspect, 1)
    assert 0 <= row.reading.untouched_ms < 10_000
    assert bench.run(bench.us.claim({bench.entry: 2})) == [Claimed.NOT_OURS], "it is in nobody's hand"
    assert taken(bench.run(bench.them.take({bench.entry: 2}, owner=US))) == [Wait(0, 0, 0)]
    row_now = bench.row()
    assert row_now is not None
    assert (row_now.consumer, row_now.rests, row_now.counter) == (THEM.encode(), False, 2)
    assert bench.run(bench.them.take({bench.entry: 3}, owner=US)) == [Claimed.NOT_OURS], "others were faster"
    assert bench.rests() == []
    assert bench.consumers() == {US, THEM}, "an owner with a mark is left behind"


def test_a_plain_claim_by_anybody_makes_it_held_again(bench: Bench) -> None:
    bench.run(bench.us.hand_back({bench.entry: 1}))
    bench.run(pack("XCLAIM", STREAM, GROUP, "somebody", 0, bench.entry))
    row = bench.row()
    assert row is not None
    assert (row.consumer, row.rests, row.counter) == (b"somebody", False, 2)


@pytest.mark.parametrize("suspect", [False, True])
def test_what_rests_is_acknowledged_as_the_slots_own(bench: Bench, suspect: bool) -> None:
    """A journal may name it as finished, whoever has let it rest since."""
    other = bench.add()
    bench.run(bench.us.hand_back({bench.entry: 1, other: 1}, suspect=suspect))
    assert bench.run(bench.them.ack_own([bench.entry])) == 0
    assert bench.run(bench.us.ack_own([bench.entry])) == 1
    assert bench.run(Marks(STREAM, GROUP, THEM).ack_own([Row(other, "mark", 1000)])) == 0
    assert bench.run(Marks(STREAM, GROUP, US).ack_own([Row(other, "mark", 1000)])) == 1


@pytest.mark.parametrize("suspect", [False, True])
def test_the_story_of_what_rests_is_kept_for_its_slot(bench: Bench, suspect: bool) -> None:
    bench.run(bench.us.hand_back({bench.entry: 1}, suspect=suspect))
    assert bench.run(bench.them.keep_letter(bench.entry, 3, 3, 5, b"story")) == 0
    assert bench.run(bench.us.keep_letter(bench.entry, 3, 3, 5, b"story")) == 1
    row = bench.row()
    assert row is not None
    assert (row.consumer, row.rests, row.counter) == (US.encode(), False, 3)


def test_a_payload_that_was_deleted_is_found_and_acknowledged(bench: Bench) -> None:
    bench.redis.xdel(STREAM, bench.entry)
    assert bench.run(bench.us.claim({bench.entry: 2})) == [Claimed.DELETED]
    assert bench.row() is None
    assert bench.run(bench.us.claim({bench.entry: 2})) == [Claimed.GONE]


def test_what_was_taken_off_the_list_is_told_from_what_was_not_delivered(bench: Bench) -> None:
    bench.redis.xack(STREAM, GROUP, bench.entry)
    assert bench.run(bench.us.claim({bench.entry: 2})) == [Claimed.TAKEN]
    assert bench.run(bench.us.set_counters({bench.entry: 2})) == [Claimed.NOT_OURS]
    bench.redis.xgroup_delconsumer(STREAM, GROUP, US)
    assert bench.run(bench.us.claim({bench.entry: 2})) == [Claimed.ALL_TAKEN]
    bench.redis.xgroup_setid(STREAM, GROUP, "0")
    assert bench.run(bench.us.claim({bench.entry: 2})) == [Claimed.NOT_OURS], "it will be delivered again"


def test_many_at_once_each_with_its_own_answer(bench: Bench) -> None:
    ids = [bench.add() for _ in range(2000)]
    bench.redis.xack(STREAM, GROUP, *ids[::2])
    results = bench.run(bench.us.set_counters(dict.fromkeys(ids, 5)))
    assert results == [Claimed.NOT_OURS, Claimed.DONE] * 1000


LEASE, EPOCHS = "rsq:{events}:workers:leader", "rsq:{events}:workers:epoch"


def test_a_lease_is_one_holders_and_tells_whether_it_was_so_all_the_time(bench: Bench) -> None:
    def ask(token: str, ttl_ms: int = 60_000) -> Term:
        return term(bench.run(acquire(LEASE, EPOCHS, token, f"host of {token}", ttl_ms)))

    assert ask("a") == Term(True, False, 1, "host of a", 0)
    assert ask("a") == Term(True, True, 1, "host of a", 0)
    refused = ask("b")
    assert (refused.held, refused.holder) == (False, "host of a")
    assert 0 < refused.left_ms <= 60_000
    assert bench.run(release(LEASE, "b")) == 0
    assert ask("a").unbroken, "a stranger cannot let it go"
    assert bench.run(release(LEASE, "a")) == 1
    assert ask("b") == Term(True, False, 2, "host of b", 0), "every change of hands has a new epoch"
    bench.redis.delete(LEASE)  # its time has run out
    assert ask("b") == Term(True, False, 3, "host of b", 0)


def test_how_long_an_entry_waits_is_known_to_who_takes_it(bench: Bench) -> None:
    """Only with the counter that it was recorded with, and no clock that was set back makes it longer."""
    key = keys.waiting(STREAM, GROUP)

    def taken_from_us(counter: int) -> Wait:
        bench.run(bench.us.hand_back({bench.entry: counter - 1}))
        (found,) = taken(bench.run(bench.us.take({bench.entry: counter})))
        assert isinstance(found, Wait)
        return found

    bench.run(bench.us.let_wait({bench.entry: (2, 60.0)}))
    assert 50_000 < taken_from_us(2).left_ms <= 60_000
    assert taken_from_us(3) == Wait(0, 0, 0), "others have tried it since"
    bench.run(bench.us.let_wait({bench.entry: (2, 60.0)}))
    due, rest = bytes(bench.redis.hget(key, bench.entry)).split(b" ", 1)
    bench.redis.hset(key, bench.entry, b"%d %s" % (int(due) + 400 * 86_400_000, rest))
    assert taken_from_us(2).left_ms == 60_000
    bench.redis.hset(key, bench.entry, b"what is this")
    assert taken_from_us(2) == Wait(0, 0, 0)
    bench.run(bench.us.claim({bench.entry: 2}))
    assert not bench.redis.hexists(key, bench.entry)
    bench.redis.delete(key)
    bench.redis.set(key, "not ours")
    bench.run(bench.us.let_wait({bench.entry: (2, 60.0)}))
    assert taken_from_us(2) == Wait(0, 0, 0)
    ((entry, _),) = bench.run(bench.us.claim({bench.entry: 2}))
    assert entry == bench.entry
