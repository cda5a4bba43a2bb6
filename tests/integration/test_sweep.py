"""The sweep on real servers: who is given what, and what is left alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support_servers import Server
from support_sweep import DLQ, GROUP, LEASE_MS, LEASE_S, MOST, STREAM, THIRD_MS, TTL_MS, Field, pool

from rsq.ipc.cells import Keep
from rsq.ipc.fence import boot_time
from rsq.streams import keys, lease, marks
from rsq.streams.beat import Beat
from rsq.streams.group import Group, taken
from rsq.streams.letter import parse, write_command
from rsq.streams.marks import RESTING_MS, SUSPECT_MS, Mark
from rsq.streams.sweeping import Claim, Moved, Steps, Target, moved
from rsq.streams.waiting import Wait
from rsq.supervisor.leading import Lead
from rsq.supervisor.sweep import PAGE, Deposed


@pytest.fixture(params=[False, True], ids=["marks", "old-marks"])
def field(server: Server, request: pytest.FixtureRequest) -> Iterator[Field]:
    """What rests says so by its owner, or by its idle time, as versions before had it."""
    made = Field(server)
    made.old = request.param
    made.lead()
    yield made
    made.close()


def test_what_a_lost_host_held_is_charged_and_runs_alone(field: Field) -> None:
    """Its entries rest as suspects at idle slots, spread evenly, with the counter of the attempt that ran."""
    field.host("web-1", {0: "idle"})
    field.host("web-2", {0: "idle", 1: "busy", 2: "down", 3: "idle"})
    field.host("web-3", {0: "busy"})
    held = field.hold("web-3:0", 6, counter=2)
    field.die("web-3")
    field.sweep()
    rows = field.rows()
    assert sorted(rows) == held
    assert all(row.is_suspect and row.counter == 2 for row in rows.values())
    assert field.owners() == {b"web-1:0": 2, b"web-2:0": 2, b"web-2:3": 2}
    assert field.swept() == {"taken": 6, "suspects": 6}
    assert field.inbox("web-1") == [b"0"]
    assert sorted(field.inbox("web-2")) == [b"0", b"3"]


def test_what_a_lost_host_had_handed_back_is_not_charged(field: Field) -> None:
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    field.hold("web-3:0", 3, RESTING_MS, 0)
    field.die("web-3")
    field.sweep()
    assert [(row.rests, row.is_suspect, row.counter) for row in field.rows().values()] == [
        (True, False, 0)
    ] * 3
    assert field.swept() == {"taken": 3}


def wait(field: Field, owner: str, ids: list[bytes], attempt: int, left_s: float = 60.0) -> None:
    """Let entries wait that an owner has in hand, as long ago as it takes to be taken for lost."""
    field.call(Group(STREAM, GROUP, owner).let_wait(dict.fromkeys(ids, (attempt, left_s))))
    field.set(owner, ids, LEASE_MS, attempt)


def test_what_a_lost_host_let_wait_is_not_charged(field: Field) -> None:
    """However many attempts are used up: the one that its counter names was not started."""
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    waits, runs = field.hold("web-3:0", 3), field.hold("web-3:0", 3)
    wait(field, "web-3:0", waits[:2], 2)
    wait(field, "web-3:0", waits[2:], MOST)
    wait(field, "web-3:0", runs[:1], 1)  # another counter than now: written by an older version, run since
    field.set("web-3:0", runs[:1], LEASE_MS, 2)
    field.set("elsewhere:0", runs[1:2], 0, 1)
    wait(field, "elsewhere:0", runs[1:2], 1)  # it was another's then
    field.set("web-3:0", runs[1:2], LEASE_MS, 1)
    field.call(Group(STREAM, GROUP, "web-3:0").let_wait({runs[2]: (1, 60.0)}))
    field.call(Group(STREAM, GROUP, "web-3:0").claim({runs[2]: 1}))  # about to run
    field.set("web-3:0", runs[2:], LEASE_MS, 1)
    field.die("web-3")
    field.sweep()
    rows = field.rows()
    assert {row.consumer for row in rows.values()} == {b"web-1:0"}
    assert [(rows[entry].is_suspect, rows[entry].counter) for entry in waits] == [
        (False, 1), (False, 1), (False, MOST - 1),
    ]  # fmt: skip
    assert [(rows[entry].is_suspect, rows[entry].counter) for entry in runs] == [
        (True, 2), (True, 1), (True, 1),
    ]  # fmt: skip
    assert field.swept() == {"taken": 6, "suspects": 3}
    worker = Group(STREAM, GROUP, "web-1:0")
    (reply,) = field.call(worker.take({entry: rows[entry].counter + 1 for entry in waits}))
    for found in taken(reply):
        assert isinstance(found, Wait)
        assert 50_000 < found.left_ms <= 60_000


def test_records_of_what_is_not_pending_are_removed(field: Field) -> None:
    """Whoever acknowledged it; what still waits keeps its own."""
    field.host("web-1", {0: "busy"})
    ids = field.hold("web-1:0", 40)
    wait(field, "web-1:0", ids, 2)
    field.ask("HSET", keys.stories(STREAM, GROUP), ids[0], "one", ids[1], "two", "0-1", "three")
    field.ask("XACK", STREAM, GROUP, *ids[1:30])
    field.sweep()
    assert set(field.ask("HKEYS", keys.waiting(STREAM, GROUP))) == {ids[0], *ids[30:]}
    assert field.ask("HKEYS", keys.stories(STREAM, GROUP)) == [ids[0]]


def test_nothing_is_taken_from_the_living_nor_too_early(field: Field) -> None:
    field.host("web-1", {0: "idle"})
    field.host("web-2", {0: "busy"})
    field.host("web-3", {0: "busy"})
    old = field.hold("web-2:0", 2, TTL_MS * 10)  # its renewal is late: never mind
    young = field.hold("web-3:0", 2, LEASE_MS // 2)
    field.die("web-3")
    field.sweep()
    assert {row.entry: row.consumer for row in field.rows().values()} == {
        **dict.fromkeys(old, b"web-2:0"), **dict.fromkeys(young, b"web-3:0"),
    }  # fmt: skip
    assert field.swept() == {}


def test_when_nobody_is_idle_busy_slots_get_it_and_never_those_that_are_down(field: Field) -> None:
    field.host("web-1", {0: "busy", 1: "down"})
    field.host("web-2", {0: "busy"})
    field.host("web-3", {0: "busy"})
    field.hold("web-3:0", 4)
    field.die("web-3")
    field.sweep()
    assert field.owners() == {b"web-1:0": 2, b"web-2:0": 2}


def test_with_nobody_to_give_it_to_it_stays(field: Field) -> None:
    field.host("web-1", {0: "down"})
    field.host("web-3", {0: "busy"})
    field.hold("web-3:0", 2)
    field.die("web-3")
    field.sweep()
    assert field.owners() == {b"web-3:0": 2}


def test_turns_go_on_over_passes(field: Field) -> None:
    """One entry a pass does not always meet the same slot."""
    field.host("web-1", {0: "idle", 1: "idle"})
    field.host("web-2", {0: "idle"})
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    sweeper = field.sweeper()
    for _ in range(6):
        field.hold("web-3:0", 1)
        field.sweep(sweeper)
    assert field.owners() == {b"web-1:0": 2, b"web-1:1": 2, b"web-2:0": 2}


def test_what_rests_at_a_busy_slot_goes_to_an_idle_one_and_stays_there(field: Field) -> None:
    field.host("web-1", {0: "busy", 1: "down"})
    field.host("web-2", {0: "idle"})
    field.hold("web-1:0", 1, RESTING_MS + THIRD_MS, 1)
    field.hold("web-1:0", 1, SUSPECT_MS + THIRD_MS, 1)
    field.hold("web-1:1", 1, RESTING_MS + THIRD_MS, 1)
    early = field.hold("web-1:1", 1, RESTING_MS + THIRD_MS // 2, 1)
    waits = field.hold("web-2:0", 1, RESTING_MS + LEASE_MS, 1)
    field.sweep()
    rows = field.rows()
    assert field.owners() == {b"web-2:0": 4, b"web-1:1": 1}
    assert rows[early[0]].consumer == b"web-1:1"
    assert rows[waits[0]].idle_ms >= RESTING_MS + LEASE_MS  # untouched
    assert sorted(row.is_suspect for row in rows.values()) == [False] * 4 + [True]
    assert field.swept() == {"taken": 3}
    field.sweep()
    assert field.swept() == {"taken": 3}


def test_what_rests_at_a_busy_slot_stays_when_nobody_is_idle(field: Field) -> None:
    field.host("web-1", {0: "busy", 1: "busy"})
    field.hold("web-1:0", 1, RESTING_MS + LEASE_MS, 1)
    field.sweep()
    assert field.owners() == {b"web-1:0": 1}


def test_a_closed_slot_gives_away_what_rests_and_keeps_what_is_held(field: Field) -> None:
    field.host("web-1", {0: "busy"})
    field.hold("web-1:7", 2, RESTING_MS + THIRD_MS, 1)
    held = field.hold("web-1:7", 1, TTL_MS, 1)
    field.sweep()
    assert field.owners() == {b"web-1:0": 2, b"web-1:7": 1}
    assert field.rows()[held[0]].idle_ms >= TTL_MS


def test_strangers_have_until_the_consumers_time_to_live(field: Field) -> None:
    """Consumers without an instance, and names of instances that never were."""
    field.host("web-1", {0: "idle"})
    young = field.hold("cron", 1, TTL_MS - LEASE_MS) + field.hold("other:1", 1, TTL_MS - LEASE_MS)
    old = field.hold("cron", 1, TTL_MS) + field.hold("other:1", 1, TTL_MS) + field.hold("web-1:00", 1, TTL_MS)
    field.sweep()
    rows = field.rows()
    assert [rows[entry].consumer for entry in young] == [b"cron", b"other:1"]
    assert all(rows[entry].consumer == b"web-1:0" and rows[entry].is_suspect for entry in old)


def test_poison_that_kills_hosts_is_buried_with_its_story(field: Field) -> None:
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    poison = field.hold("web-3:0", 2, LEASE_MS, MOST)
    poison += field.hold("web-1:0", 1, SUSPECT_MS, MOST)  # at a slot that lives: its worker leaves it
    spared = field.hold("web-3:0", 1, LEASE_MS, MOST - 1) + field.hold("web-1:0", 1, LEASE_MS, MOST)
    field.sweep()
    assert sorted(field.rows()) == sorted(spared)
    letters = [parse(entry, fields) for entry, fields in field.letters()]
    assert [letter.origin_id.encode() for letter in letters if letter] == poison
    assert {
        (letter.reason, letter.attempts, letter.fields, letter.stream, letter.group)
        for letter in letters
        if letter
    } == {("host lost", MOST, ((b"data", b"x"),), STREAM, GROUP)}
    assert [letter.consumer for letter in letters if letter] == ["web-3:0", "web-3:0", "web-1:0"]
    assert all(
        letter.first_ms == int(letter.origin_id.split("-")[0]) <= letter.last_ms
        for letter in letters
        if letter
    )
    assert field.swept() == {"buried": 3, "taken": 1, "suspects": 1}


@pytest.mark.parametrize("fields", [("data", b"\x00\xff", "e", ""), ("data", "x") * 2500, ("rsq:id", "mine")])
def test_its_letters_are_those_of_a_worker_byte_by_byte(
    field: Field, fields: tuple[bytes | str, ...]
) -> None:
    """Readers of dead letters need not know who wrote one."""
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    field.ask("XADD", STREAM, "*", *fields)
    (entry,) = field.read("web-3:0", 1)
    field.set("web-3:0", [entry], LEASE_MS, MOST)
    field.sweep()
    ((_, swept),) = field.letters()
    letter = parse(b"1-1", swept)
    assert letter is not None
    assert field.rows() == {}
    field.ask("DEL", DLQ)
    field.ask("XGROUP", "SETID", STREAM, GROUP, "0")
    assert field.read("web-3:0", 1) == [entry]
    words = write_command(
        STREAM, DLQ, GROUP, "web-3:0", entry, attempts=MOST, reason="host lost", error=letter.error,
        first_ms=int(entry.split(b"-")[0]), last_ms=letter.last_ms,
    )  # fmt: skip
    assert field.ask(*words) == 1
    ((_, written),) = field.letters()
    assert swept == written


def test_large_payloads_are_moved_few_at_a_time(field: Field) -> None:
    """So that the server is never kept for long; nothing is left out, nobody waits for another pass."""
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    field.push(20, 100_000)
    ids = field.read("web-3:0", 20)
    for counter in (MOST, 1):
        field.set("web-3:0", ids, LEASE_MS, counter)
        steps = Steps(STREAM, GROUP, DLQ, MOST, field.epoch)
        if counter == MOST:
            (reply,) = field.call(steps.bury(LOST, ids, 1))
            assert moved(ids, reply) == (dict.fromkeys(ids[:3], Moved.DONE), "")
            field.sweep()
            assert len(field.letters()) == 20
            field.push(20, 100_000)
            ids = field.read("web-3:0", 20)
    field.sweep()
    assert field.owners() == {b"web-1:0": 20}
    assert field.swept() == {"buried": 20, "taken": 20, "suspects": 20}


def test_a_letter_that_cannot_be_written_leaves_its_entry(
    field: Field, caplog: pytest.LogCaptureFixture
) -> None:
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    poison = field.hold("web-3:0", 3, LEASE_MS, MOST)
    field.ask("SET", DLQ, "no stream")
    sweeper = field.sweeper()
    field.sweep(sweeper)
    assert sorted(field.rows()) == poison
    assert field.swept() == {}
    field.sweep(sweeper)
    assert caplog.text.count(f"dead letter of {poison[0].decode()}") == 1
    assert "not a stream" in caplog.text
    field.ask("DEL", DLQ)
    field.sweep(sweeper)
    assert field.rows() == {}
    assert len(field.letters()) == 3


def test_a_server_out_of_memory_stops_letters_and_nothing_else(field: Field) -> None:
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    poison = field.hold("web-3:0", 3, LEASE_MS, MOST)
    suspect = field.hold("web-3:0", 1, LEASE_MS, 1)
    field.ask("CONFIG", "SET", "maxmemory", 1)
    field.sweep()
    field.ask("CONFIG", "SET", "maxmemory", 0)
    rows = field.rows()
    assert [rows[entry].consumer for entry in poison] == [b"web-3:0"] * 3
    assert rows[suspect[0]].consumer == b"web-1:0"
    field.sweep()
    assert len(field.letters()) == 3


def test_what_was_deleted_from_the_stream_is_reported_as_lost(
    field: Field, caplog: pytest.LogCaptureFixture
) -> None:
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    gone = field.hold("web-3:0", 2) + field.hold("web-3:0", 1, LEASE_MS, MOST)
    kept = field.hold("web-3:0", 1)
    for entry in gone:
        field.ask("XDEL", STREAM, entry)
    field.sweep()
    assert sorted(field.rows()) == kept
    assert field.swept() == {"lost": 3, "taken": 1, "suspects": 1}
    assert all(entry.decode() in caplog.text for entry in gone)
    assert field.letters() == []


def test_a_deposed_leader_changes_nothing(field: Field) -> None:
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    field.hold("web-3:0", 2)
    sweeper, old = field.sweeper(), field.epoch
    sweeper.turn(old, 0.0)
    sweeper.turn(old, 100.0)
    field.lead("t2")
    with pytest.raises(Deposed, match="epoch"):
        sweeper.turn(old, 101.0)
    assert field.owners() == {b"web-3:0": 2}
    assert field.swept() == {}


def test_a_leader_waits_a_lease_before_its_first_pass(field: Field) -> None:
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    field.hold("web-3:0", 2)
    sweeper = field.sweeper()
    assert sweeper.turn(field.epoch, 100.0) == 100.0 + LEASE_MS / 1000
    assert sweeper.turn(field.epoch, 114.9) == 100.0 + LEASE_MS / 1000
    assert field.owners() == {b"web-3:0": 2}
    sweeper.turn(field.epoch, 115.0)
    sweeper.turn(field.epoch, 115.1)
    assert field.owners() == {b"web-1:0": 2}


def test_a_leader_that_heard_nothing_for_long_waits_again(field: Field) -> None:
    """Its own lease outlived the outage by chance; others were renewed earlier, and have yet to come back."""
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    keep = Keep(memoryview(bytearray(Keep.SIZE * 8)))
    lead = Lead(pool(field.url), keep, field.call, lambda: 0)
    held = lease.Term(held=True, unbroken=True, epoch=field.epoch, holder="leader", left_ms=0)
    beat = Beat(held, held, field.epoch)

    def swept() -> bool:
        """Tell whether a pass goes on; pretend that it is time for one, if it may be."""
        assert lead.sweep()
        return lead._sweeper._turns is not None

    lead.note(beat, boot_time())
    assert not swept()
    lead._sweeper._due = lead._due = 0.0  # the lease that a new leader waits is over
    lead.note(beat, boot_time())
    assert swept()
    field.hold("web-3:0", 2)
    field.die("web-3")
    began = time.monotonic()
    lead._until = boot_time() - 0.1  # no beat was answered for as long as it could be trusted
    lead.note(beat, boot_time())
    lead._due = 0.0
    assert not swept()
    assert lead.due > began + LEASE_S * 0.9
    assert field.owners() == {b"web-3:0": 2}


def test_many_entries_go_in_many_turns(field: Field) -> None:
    field.host("web-1", {0: "idle", 1: "busy"})
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    number = 2 * PAGE + 7
    pipe = [field.ask("XADD", STREAM, "*", "n", n) for n in range(number)]
    field.set("web-3:0", field.read("web-3:0", number), LEASE_MS, 1)
    turns = field.sweep()
    assert turns >= 4
    assert sorted(field.rows()) == sorted(pipe)
    taken = field.owners()
    assert sum(taken.values()) == number
    assert abs(taken[b"web-1:0"] - taken[b"web-1:1"]) <= 3 * 16
    assert field.swept() == {"taken": number, "suspects": number}


def test_consumers_that_are_gone_are_removed_only_with_nothing_pending(field: Field) -> None:
    field.host("web-1", {0: "busy"})
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    for consumer in ("web-3:0", "web-3:1", "cron", "web-1:0", "web-1:9"):
        field.ask("XGROUP", "CREATECONSUMER", STREAM, GROUP, consumer)
    field.hold("web-3:1", 1, 0)
    field.sweep(consumer_ttl=0.0, lease=3600.0)
    names = {row[1] for row in field.ask("XINFO", "CONSUMERS", STREAM, GROUP)}
    assert names == {b"web-3:1", b"web-1:0", b"web-1:9"}
    assert field.swept() == {"removed": 2}
    assert field.ask("HEXISTS", keys.instances(STREAM, GROUP), "web-3") == 1
    field.ask("XACK", STREAM, GROUP, *field.rows())
    field.sweep(consumer_ttl=0.0)
    assert field.ask("HEXISTS", keys.instances(STREAM, GROUP), "web-3") == 0
    assert field.ask("HEXISTS", keys.instances(STREAM, GROUP), "web-1") == 1
    assert field.swept() == {"removed": 3}


def test_consumers_that_were_there_a_moment_ago_are_not_removed(field: Field) -> None:
    field.ask("XGROUP", "CREATECONSUMER", STREAM, GROUP, "cron")
    field.sweep()
    assert field.swept() == {}


def test_a_group_that_was_there_is_created_again_and_counted(
    field: Field, caplog: pytest.LogCaptureFixture
) -> None:
    sweeper = field.sweeper()
    field.sweep(sweeper)
    field.push(1)
    field.ask("XGROUP", "DESTROY", STREAM, GROUP)
    field.sweep(sweeper)
    assert field.swept() == {"recreated": 1}
    assert "was missing" in caplog.text
    assert len(field.read("web-1:0", 10)) == 1
    field.ask("DEL", STREAM)
    field.sweep(sweeper)
    assert field.swept() == {"recreated": 2}
    field.sweep(sweeper)
    assert field.swept() == {"recreated": 2}


def test_a_first_creation_is_not_counted(field: Field) -> None:
    field.ask("DEL", STREAM)
    field.sweep()
    assert field.swept() == {}
    assert field.ask("EXISTS", STREAM) == 1


def test_a_key_of_another_type_is_said_once_and_tried_again(
    field: Field, caplog: pytest.LogCaptureFixture
) -> None:
    sweeper = field.sweeper()
    field.ask("DEL", STREAM)
    field.ask("SET", STREAM, "no stream")
    field.sweep(sweeper)
    field.sweep(sweeper)
    assert caplog.text.count("could not go on") == 1
    assert "not a stream" in caplog.text


@pytest.mark.parametrize("name", [b"\xff\xfe:3", b"a\nb:1", b"x:" + b"9" * 5000, b":1", b"a:b:2"])
def test_names_may_be_anything(field: Field, name: bytes) -> None:
    field.host("web-1", {0: "idle"})
    field.hold(name, 1, TTL_MS)  # type: ignore[arg-type]
    field.ask("HSET", keys.instances(STREAM, GROUP), name, b"\xff{}")
    field.sweep()
    assert field.owners() == {b"web-1:0": 1}


def test_who_comes_back_between_look_and_deed_keeps_everything(field: Field) -> None:
    """Also what is so old that its renewal is long overdue: the lease of its instance counts."""
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    field.hold("web-3:0", 2)
    field.hold("web-3:0", 1, LEASE_MS, MOST)
    sweeper = field.sweeper()
    sweeper.turn(field.epoch, 0.0)
    sweeper.turn(field.epoch, 100.0)  # it has seen who is gone
    field.host("web-3", {0: "busy"})
    for turn in range(8):
        sweeper.turn(field.epoch, 101.0 + turn / 10)
    assert field.owners() == {b"web-3:0": 3}
    assert field.letters() == []


def test_a_target_that_dies_between_look_and_deed_is_passed_over(field: Field) -> None:
    field.host("web-1", {0: "idle"})
    field.host("web-2", {0: "idle"})
    field.host("web-3", {0: "busy"})
    field.die("web-3")
    field.hold("web-3:0", 4)
    sweeper = field.sweeper()
    sweeper.turn(field.epoch, 0.0)
    sweeper.turn(field.epoch, 100.0)
    field.die("web-1")
    for turn in range(8):
        sweeper.turn(field.epoch, 101.0 + turn / 10)
    assert field.owners() == {b"web-2:0": 4}


LOST = Claim(b"web-3:0", "web-3", True, LEASE_MS, 0)
BUSY = Claim(b"web-3:0", "web-3", False, -1, THIRD_MS)


@pytest.mark.parametrize(
    ("claim", "owner", "idle_ms", "counter", "handed", "buried"),
    [
        (LOST, "web-3:0", LEASE_MS, 1, Moved.CHARGED, Moved.NOT),
        (LOST, "web-3:0", RESTING_MS, 1, Moved.DONE, Moved.NOT),
        (LOST, "web-3:0", SUSPECT_MS, 1, Moved.DONE, Moved.NOT),
        (LOST, "web-3:0", RESTING_MS, MOST, Moved.DONE, Moved.NOT),
        (LOST, "web-3:0", SUSPECT_MS, MOST, Moved.NOT, Moved.DONE),
        (LOST, "web-3:0", LEASE_MS, MOST, Moved.NOT, Moved.DONE),
        (LOST, "web-3:0", LEASE_MS // 2, MOST, Moved.NOT, Moved.NOT),
        (LOST, "web-3:0", LEASE_MS // 2, 1, Moved.NOT, Moved.NOT),
        (LOST, "web-2:0", LEASE_MS, 1, Moved.NOT, Moved.NOT),
        (LOST, "web-2:0", SUSPECT_MS, MOST, Moved.NOT, Moved.NOT),
        (BUSY, "web-3:0", TTL_MS, 1, Moved.NOT, Moved.NOT),
        (BUSY, "web-3:0", RESTING_MS + THIRD_MS // 2, 1, Moved.NOT, Moved.NOT),
        (BUSY, "web-3:0", SUSPECT_MS + THIRD_MS // 2, 1, Moved.NOT, Moved.NOT),
        (BUSY, "web-3:0", RESTING_MS + THIRD_MS, 1, Moved.DONE, Moved.NOT),
        (BUSY, "web-3:0", SUSPECT_MS + THIRD_MS, 1, Moved.DONE, Moved.NOT),
    ],
)
def test_scripts_look_again_at_everything(
    field: Field, claim: Claim, owner: str, idle_ms: int, counter: int, handed: Moved, buried: Moved
) -> None:
    """Whatever made the leader send them, and however long that was ago."""
    field.host("web-1", {0: "idle"})
    steps = Steps(STREAM, GROUP, DLQ, MOST, field.epoch)

    def marked(claim: Claim, idle_ms: int) -> Claim:
        mark = Mark.HELD if field.old else marks.read(Mark.HELD, idle_ms).mark
        return replace(claim, owner=marks.owner(claim.owner.decode(), mark).encode(), mark=mark)

    def bury(ids: list[bytes]) -> bytes:
        return steps.bury(marked(claim, idle_ms), ids, 1)

    def hand(ids: list[bytes]) -> bytes:
        return steps.handover(marked(claim, idle_ms), ids, Target("web-1", 0), 1000)

    for expected, command in ((buried, bury), (handed, hand)):
        ids = field.hold(owner, 2, idle_ms, counter)
        began, before = time.monotonic(), field.rows()
        (reply,) = field.call(command(ids))
        assert moved(ids, reply) == (dict.fromkeys(ids, expected), "")
        rows = field.rows()
        if expected is Moved.NOT:
            assert [rows[entry].consumer for entry in ids] == [owner.encode()] * 2
            older_ms = [rows[entry].idle_ms - before[entry].idle_ms for entry in ids]
            most_ms = (time.monotonic() - began) * 1000 + 10
            assert all(0 <= older <= most_ms for older in older_ms), "touched"
        field.ask("XACK", STREAM, GROUP, *ids)
        (reply,) = field.call(command(ids))
        assert moved(ids, reply) == (dict.fromkeys(ids, Moved.NOT), "")


def test_the_script_removes_no_consumer_with_entries_nor_of_the_living(field: Field) -> None:
    field.host("web-3", {0: "busy"})
    steps = Steps(STREAM, GROUP, DLQ, MOST, field.epoch)
    field.hold("web-3:0", 1)
    field.ask("XGROUP", "CREATECONSUMER", STREAM, GROUP, "web-3:1")
    remove = steps.remove("web-3", [b"web-3:0", b"web-3:1"], 0, forget=True)
    assert field.call(remove) == [[]]
    field.die("web-3")
    assert field.call(remove) == [[b"web-3:1"]]
    assert field.owners() == {b"web-3:0": 1}
