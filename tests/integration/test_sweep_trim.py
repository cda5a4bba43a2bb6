"""Trimming: nothing goes that any group has not read and acknowledged."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from support_servers import Server
from support_sweep import GROUP, STREAM, Field, run_pass


@pytest.fixture
def field(server: Server) -> Iterator[Field]:
    made = Field(server)
    made.lead()
    yield made
    made.close()


def done(field: Field, number: int, group: str = GROUP) -> list[bytes]:
    """Let a group read and acknowledge entries."""
    who = ("GROUP", group, "x", "COUNT", number, "STREAMS", STREAM, ">")
    ids = [entry for entry, _ in field.ask("XREADGROUP", *who)[0][1]]
    field.ask("XACK", STREAM, group, *ids)
    return ids


def left(field: Field) -> list[bytes]:
    return [entry for entry, _ in field.ask("XRANGE", STREAM, "-", "+")]


def test_by_default_nothing_is_trimmed(field: Field) -> None:
    field.push(5)
    done(field, 5)
    field.sweep()
    assert len(left(field)) == 5


def test_what_all_have_acknowledged_goes_and_the_last_delivered_stays(field: Field) -> None:
    ids = field.push(1234)
    done(field, 1200)
    field.sweep(trim="acked")
    assert left(field) == ids[1199:]
    assert field.swept() == {"trimmed": 1199}


def test_the_oldest_pending_entry_of_any_group_is_the_bound(field: Field) -> None:
    ids = field.push(300)
    done(field, 300)
    field.ask("XGROUP", "CREATE", STREAM, "audit", 0)
    field.sweep(trim="acked")
    assert len(left(field)) == 300  # that group has read nothing
    done(field, 120, "audit")
    field.ask("XREADGROUP", "GROUP", "audit", "x", "COUNT", 1, "STREAMS", STREAM, ">")
    done(field, 100, "audit")
    field.sweep(trim="acked")
    assert left(field) == ids[120:]


def test_a_group_that_was_set_back_finds_what_it_will_read_again(field: Field) -> None:
    ids = field.push(50)
    field.read("x", 40)
    field.ask("XACK", STREAM, GROUP, *ids[:30])
    field.ask("XGROUP", "SETID", STREAM, GROUP, ids[9])
    field.sweep(trim="acked")
    assert left(field) == ids[9:]


@pytest.mark.parametrize("keep", [0, 1, 30, 250, 999, 2000])
def test_so_many_entries_are_kept(field: Field, keep: int) -> None:
    field.push(1000)
    done(field, 1000)
    field.sweep(trim=f"maxlen:{keep}")
    assert len(left(field)) == min(1000, max(keep, 1))


def test_so_many_are_kept_but_nothing_unread_goes(field: Field) -> None:
    field.push(500)
    done(field, 200)
    field.sweep(trim="maxlen:10")
    assert len(left(field)) == 301


def test_what_is_younger_stays(field: Field) -> None:
    seconds, _ = field.ask("TIME")
    old = [field.ask("XADD", STREAM, f"{(int(seconds) - 3600) * 1000 + n}-0", "data", "x") for n in range(5)]
    young = field.push(5)
    done(field, 10)
    field.sweep(trim="age:7200")
    assert left(field) == old + young
    field.sweep(trim="age:1800")
    assert left(field) == young


def test_ids_too_large_for_a_double_are_compared_exactly(field: Field) -> None:
    base = 2**63
    ids = [field.ask("XADD", STREAM, f"{base}-{2**64 - 10 + n}", "data", "x") for n in range(8)]
    done(field, 5)
    field.ask("XGROUP", "CREATE", STREAM, "audit", 0)
    done(field, 7, "audit")
    field.sweep(trim="acked")
    assert left(field) == ids[4:]


@pytest.mark.parametrize("trim", ["acked", "maxlen:2", "age:60"])
@pytest.mark.parametrize("has_read", [True, False])
def test_a_group_that_is_far_behind_is_named_once_an_hour(
    field: Field, caplog: pytest.LogCaptureFixture, trim: str, has_read: bool
) -> None:
    """Somebody's old group, with nobody to read it, keeps everything."""
    old = round(time.time() * 1000) - 3 * 3_600_000
    for at in range(9):
        field.ask("XADD", STREAM, f"{old + at * 3_600_000 // 3 - 1}-1", "data", "x")
    field.ask("XGROUP", "CREATE", STREAM, "forgotten", "0")
    if has_read:
        field.ask("XREADGROUP", "GROUP", "forgotten", "x", "COUNT", 2, "STREAMS", STREAM, ">")
        done(field, 9)
    else:
        done(field, 9)
    sweeper = field.sweeper(trim=trim)
    for _ in range(3):
        run_pass(sweeper, field.epoch)
    assert len(left(field)) == 9
    (said,) = [
        record.getMessage() for record in caplog.records if "from being trimmed" in record.getMessage()
    ]
    assert "group forgotten keeps stream orders" in said
    assert "begins 2.7 hours" in said
    assert said.endswith("XGROUP DESTROY orders forgotten")
    sweeper._hold_due = 0.0
    run_pass(sweeper, field.epoch)
    assert caplog.text.count("from being trimmed") == 2


@pytest.mark.parametrize("trim", ["acked", "maxlen:5", "age:60", "age:100000"])
def test_nobody_is_named_who_keeps_up_or_is_not_in_the_way(
    field: Field, caplog: pytest.LogCaptureFixture, trim: str
) -> None:
    old = round(time.time() * 1000) - 3 * 3_600_000
    for at in range(4):
        field.ask("XADD", STREAM, f"{old + at * 3_600_000}-1", "data", "x")
    if trim in ("maxlen:5", "age:100000"):  # the rule itself keeps all
        field.ask("XGROUP", "CREATE", STREAM, "forgotten", "0")
    done(field, 4)
    field.sweep(trim=trim)
    assert "from being trimmed" not in caplog.text
