"""Held, resting and suspect, on real servers: told apart whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support_servers import Server
from support_sweep import GROUP, LEASE_MS, MOST, STREAM, TTL_MS, Field

from rsq.streams import keys, marks
from rsq.streams.connection import target
from rsq.streams.group import Group, Pending, pending_rows
from rsq.streams.lending import Lending, rows
from rsq.streams.marks import RESTING_MS, SUSPECT_MS, Mark
from rsq.streams.sweeping import Claim, Steps, Target
from rsq.streams.wire import Wire

WEB, HELD, RESTING, SUSPECT = "web-1:0", Mark.HELD, Mark.RESTING, Mark.SUSPECT


@pytest.fixture
def field(server: Server) -> Iterator[Field]:
    made = Field(server)
    made.lead()
    yield made
    made.close()


def consumers(field: Field) -> set[bytes]:
    return {row[1] for row in field.ask("XINFO", "CONSUMERS", STREAM, GROUP)}


def test_scripts_and_python_read_the_same(field: Field) -> None:
    script = marks.SCRIPT + b"return {mark_of({'1-0', ARGV[1], tonumber(ARGV[2]), 1}, ARGV[3])}"
    for owner in (*marks.owners(WEB), "web-1:00", "web-1:0:rests", "web-1:0:rest:rest"):
        for idle_ms in (0, 7, RESTING_MS - 1, RESTING_MS, SUSPECT_MS - 1, SUSPECT_MS, SUSPECT_MS + 9):
            said = field.ask("EVAL", script, 0, owner, idle_ms, WEB)
            row = Pending(b"1-0", owner.encode(), idle_ms, 1)
            mine = row.slot == WEB.encode()
            assert said == ([row.reading.mark.value.encode(), row.reading.untouched_ms] if mine else [])


US, THEM = Group(STREAM, GROUP, WEB), Group(STREAM, GROUP, "web-2:0")


def counters(ids: list[bytes], counter: int) -> dict[bytes, int]:
    return dict.fromkeys(ids, counter)


def test_a_server_that_is_killed_between_any_two_steps_tells_the_states_apart(own_server: Server) -> None:
    """Six entries, two of a kind; what each step does to them is all there, or none of it."""
    field = Field(own_server)
    ids = field.push(6)
    assert field.read(WEB, 6) == ids
    steps: list[tuple[bytes, list[tuple[bytes, Mark, int]]]] = [
        (US.hand_back(counters(ids[2:4], 0)), [(b"web-1:0", RESTING, 0)] * 2 + [(b"web-1:0", HELD, 1)] * 2),
        (
            US.hand_back(counters(ids[4:], 1), suspect=True),
            [(b"web-1:0", RESTING, 0)] * 2 + [(b"web-1:0", SUSPECT, 1)] * 2,
        ),
        (
            THEM.take(counters(ids[2:3], 1), owner=WEB),
            [(b"web-2:0", HELD, 1), (b"web-1:0", RESTING, 0)] + [(b"web-1:0", SUSPECT, 1)] * 2,
        ),
        (
            US.claim_suspect(ids[4], 2),
            [
                (b"web-2:0", HELD, 1),
                (b"web-1:0", RESTING, 0),
                (b"web-1:0", HELD, 2),
                (b"web-1:0", SUSPECT, 1),
            ],
        ),
        (
            THEM.hand_back(counters(ids[2:3], 0)),
            [
                (b"web-2:0", RESTING, 0),
                (b"web-1:0", RESTING, 0),
                (b"web-1:0", HELD, 2),
                (b"web-1:0", SUSPECT, 1),
            ],
        ),
    ]
    try:
        for command, expected in steps:
            field.call(command)
            field.close()
            own_server.kill()
            own_server.start()
            field.wire = Wire(target(own_server.url), "test", 20.0)
            found = pending_rows(field.ask("XPENDING", STREAM, GROUP, "-", "+", 100))
            states = [(row.slot, row.reading.mark, row.counter) for row in found]
            assert states == [(b"web-1:0", HELD, 1)] * 2 + expected
    finally:
        field.close()


def test_owners_with_a_mark_are_there_while_they_own_something(field: Field) -> None:
    ids = field.hold(WEB, 4)
    field.call(US.hand_back(counters(ids[:2], 0)), US.hand_back(counters(ids[2:], 1), suspect=True))
    assert consumers(field) == {b"web-1:0", b"web-1:0:rest", b"web-1:0:suspect"}
    field.call(US.take(counters(ids[:1], 1)), US.claim_suspect(ids[2], 2))
    assert consumers(field) == {b"web-1:0", b"web-1:0:rest", b"web-1:0:suspect"}
    field.call(US.take(counters(ids[1:2], 1)), US.claim_suspect(ids[3], 2))
    assert consumers(field) == {b"web-1:0"}
    assert [row.entry for row in field.rows().values()] == ids


def test_those_that_others_have_emptied_are_removed_by_the_leader_and_no_others(field: Field) -> None:
    """Whether their instance lives or not; and it is looked at again in the step that removes them."""
    field.host("web-1", {0: "busy", 1: "busy"})
    ids = field.hold(WEB, 2)
    field.call(US.hand_back(counters(ids, 0)))
    sweeper = field.sweeper()
    field.ask("XACK", STREAM, GROUP, *ids[:1])
    field.sweep(sweeper)
    assert b"web-1:0:rest" in consumers(field)
    field.ask("XACK", STREAM, GROUP, *ids[1:])
    field.sweep(sweeper)
    assert consumers(field) == {b"web-1:0"}
    steps = Steps(STREAM, GROUP, "dlq", MOST, field.epoch)
    more = field.hold(WEB, 1)
    field.call(US.hand_back(counters(more, 0)))
    field.call(steps.remove("web-1", [], TTL_MS, forget=False, marked=[b"web-1:0:rest", b"web-1:0:suspect"]))
    assert list(field.rows()) == more


def test_a_lost_host_that_has_left_nothing_but_marks_is_not_forgotten(field: Field) -> None:
    field.host("web-3", {0: "busy"})
    ids = field.hold("web-3:0", 1)
    field.call(Group(STREAM, GROUP, "web-3:0").hand_back(counters(ids, 0)))
    field.ask("XGROUP", "DELCONSUMER", STREAM, GROUP, "web-3:0")
    field.die("web-3")
    steps = Steps(STREAM, GROUP, "dlq", MOST, field.epoch)
    field.call(steps.remove("web-3", [b"web-3:0:rest"], 0, forget=True))
    assert field.ask("HEXISTS", keys.instances(STREAM, GROUP), "web-3") == 1
    field.host("web-1", {0: "idle"})
    field.sweep()
    assert [(row.consumer, row.is_suspect) for row in field.rows().values()] == [(b"web-1:0", False)]
    assert field.swept() == {"taken": 1}


@pytest.mark.parametrize("name", ["mail:1:rest", "mail:1:suspect", "mail:rest", "web-1:x:rest"])
def test_what_a_stranger_has_is_its_own_whatever_its_name_ends_with(field: Field, name: str) -> None:
    """It is left alone for as long as that of any other; then it is charged, as of any other."""
    field.host("web-1", {0: "idle"})
    young, old = field.hold(name, 1, TTL_MS - LEASE_MS), field.hold(name, 1, TTL_MS)
    field.sweep()
    raw = {row.entry: row for row in pending_rows(field.ask("XPENDING", STREAM, GROUP, "-", "+", 9))}
    assert raw[young[0]].consumer == name.encode()
    assert raw[old[0]].consumer == b"web-1:0:suspect"


def test_an_instance_of_a_version_before_is_handed_what_it_can_read(field: Field) -> None:
    field.host("web-1", {0: "idle"})
    raw = field.ask("HGET", keys.instances(STREAM, GROUP), "web-1")
    field.ask("HSET", keys.instances(STREAM, GROUP), "web-1", raw.replace(b'"marks"', b'"marked"'))
    field.host("web-3", {0: "busy"})
    back = field.hold("web-3:0", 1)
    field.call(Group(STREAM, GROUP, "web-3:0").hand_back(counters(back, 0)))
    held = field.hold("web-3:0", 1)
    field.die("web-3")
    field.sweep()
    found = {row.entry: row for row in pending_rows(field.ask("XPENDING", STREAM, GROUP, "-", "+", 9))}
    assert {row.consumer for row in found.values()} == {b"web-1:0"}
    assert RESTING_MS <= found[back[0]].idle_ms < SUSPECT_MS <= found[held[0]].idle_ms


@pytest.mark.parametrize("old", [False, True])
def test_what_rests_is_lent_only_while_it_rests(field: Field, old: bool) -> None:
    """Also if it was put there just now; who has taken it into hand may start it."""
    lending = Lending(STREAM, GROUP)
    field.old = old
    ids = field.hold(WEB, 3, RESTING_MS)
    seen = rows(field.call(lending.held(WEB, b"-", 100))[0])
    assert [(row.entry, row.rests, row.is_fresh) for row in seen] == [(entry, True, False) for entry in ids]
    field.call(US.take({ids[0]: 1}))
    field.call(US.take({ids[1]: 1}), US.hand_back({ids[1]: 1}))
    assert field.call(lending.lend(WEB, "web-1:1", seen)) == [[0, 1, 1]]
    assert [row.consumer for row in field.rows().values()] == [b"web-1:0", b"web-1:1", b"web-1:1"]


def test_a_counter_that_no_number_of_lua_holds_stays_as_it_is(field: Field) -> None:
    """A stranger may set what it likes; nobody is kept from being handed the rest of the page."""
    field.host("web-1", {0: "idle"})
    field.host("web-3", {0: "busy"})
    ids = field.hold("web-3:0", 3, RESTING_MS)
    rest: Any = marks.owner("web-3:0", RESTING)
    field.ask("XCLAIM", STREAM, GROUP, rest, 0, ids[1], "RETRYCOUNT", 2**63 - 1, "JUSTID")
    field.die("web-3")
    field.sweep()
    assert {row.consumer for row in field.rows().values()} == {b"web-1:0"}
    assert field.rows()[ids[1]].counter == 2**63 - 1


def test_handing_over_and_burying_leave_no_owner_behind(field: Field) -> None:
    claim = Claim(b"web-3:0:rest", "web-3", True, LEASE_MS, 0, RESTING)
    steps = Steps(STREAM, GROUP, "dlq", MOST, field.epoch)
    field.host("web-1", {0: "idle"})
    ids = field.hold("web-3:0", 2, RESTING_MS)
    field.call(steps.handover(claim, ids, Target("web-1", 0), 1000))
    poison = field.hold("web-3:0", 1, SUSPECT_MS, MOST)
    claim = Claim(b"web-3:0:suspect", "web-3", True, LEASE_MS, 0, SUSPECT)
    field.call(steps.bury(claim, poison, 1))
    assert consumers(field) == {b"web-1:0:rest", b"web-3:0"}
    (letter,) = field.ask("XRANGE", "dlq", "-", "+")
    assert letter[1][9] == b"web-3:0", "the slot is named, not the owner"
