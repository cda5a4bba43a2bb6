"""Circuit breakers in a slot: what worker and keeper tell each other, and readers of any bytes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.ipc.breakers import NAME_MAX, ROWS, How, Row, Shown, State, Strain, Switch, Switches

ORDERS, MAILS = Row(b"order.created", 5, 60_000, 30_000, 1, 70_000), Row(b"mail", 1, 1, 1, 9, 60_000)
NEVER = State(Shown.OPEN)


@pytest.fixture
def strain() -> Strain:
    return Strain(memoryview(bytearray(Strain.SIZE)))


@pytest.fixture
def switches() -> Switches:
    return Switches(memoryview(bytearray(Switches.SIZE)))


def test_what_is_registered_is_read(strain: Strain) -> None:
    assert (strain.registered, strain.rows()) == (0, [])
    strain.register([ORDERS, MAILS])
    assert strain.rows() == [ORDERS, MAILS]
    strain.register([MAILS])
    assert (strain.registered, strain.rows()) == (2, [MAILS])


def test_failures_are_sums_for_ever(strain: Strain) -> None:
    strain.register([ORDERS, MAILS])
    strain.failed(1)
    strain.failed(1, 4)
    strain.register([ORDERS, MAILS])
    assert (strain.failures(0), strain.failures(1)) == (0, 5)


def test_a_probe_is_asked_for_granted_and_ends_under_one_number(strain: Strain, switches: Switches) -> None:
    strain.register([ORDERS, MAILS])
    number = strain.ask(1)
    assert strain.question == (number, 1)
    assert switches.granted != number
    switches.grant(number)
    assert switches.granted == number
    strain.end(number, How.WELL)
    assert strain.answer == (number, How.WELL)
    assert strain.ask(0) != number


def test_switches_of_another_registration_are_not_believed(strain: Strain, switches: Switches) -> None:
    """A worker with other code has other rows; until the keeper has seen them nothing with a breaker runs."""
    strain.register([ORDERS])
    assert switches.get(strain.registered, 0) is Switch.UNKNOWN
    switches.set(strain.registered, [State()])
    assert switches.get(strain.registered, 0) is Switch.CLOSED
    assert switches.is_closed(strain.registered, 0)
    strain.register([MAILS])
    assert switches.get(strain.registered, 0) is Switch.UNKNOWN
    assert not switches.is_closed(strain.registered, 0)
    switches.set(strain.registered, [NEVER])
    assert switches.get(strain.registered, 0) is Switch.OPEN
    assert switches.state(0) == NEVER


def test_an_open_breaker_is_ready_for_a_probe_when_it_is_due(strain: Strain, switches: Switches) -> None:
    strain.register([ORDERS, MAILS])
    switches.set(strain.registered, [State(Shown.OPEN, 10.0, 1), State(Shown.HALF_OPEN, 20.0, 2)])
    seen = [[switches.get(strain.registered, row, now) for row in (0, 1)] for now in (9.0, 11.0, 20.0)]
    assert seen == [
        [Switch.OPEN, Switch.OPEN],
        [Switch.READY, Switch.OPEN],
        [Switch.READY, Switch.READY],
    ]
    assert (switches.due(0), switches.due(1)) == (10.0, 20.0)


def test_what_the_fleet_knows_outlives_the_keeper(strain: Strain, switches: Switches) -> None:
    strain.register([ORDERS, MAILS])
    switches.set(1, [State(), State()])
    switches.tell(1, 7)
    switches.grant(3)
    switches.settle(2)
    switches.set(2, [State(opened=1), State(opened=5)])
    assert (switches.told(0), switches.told(1), switches.granted, switches.settled) == (0, 7, 3, 2)
    assert [switches.state(row).opened for row in (0, 1)] == [1, 5]


def test_what_does_not_fit_is_refused_and_changes_nothing(strain: Strain) -> None:
    strain.register([ORDERS])
    with pytest.raises(ValueError, match=f"{ROWS} can"):
        strain.register([MAILS] * (ROWS + 1))
    for name in (b"", b"x" * (NAME_MAX + 1)):
        with pytest.raises(ValueError, match="a name of 1 to 64 bytes"):
            strain.register([MAILS, Row(name, 1, 1, 1, 1, 1)])
    assert strain.rows() == [ORDERS]
    strain.register([Row(b"x" * NAME_MAX, 1, 1, 1, 1, 1)] * ROWS)
    assert len(strain.rows()) == ROWS


@given(st.integers(0, 2**32), st.sampled_from([0x00, 0x01, 0xFF]))
def test_readers_survive_any_content(seed: int, mask: int) -> None:
    noise = random.Random(seed).randbytes(Strain.SIZE + Switches.SIZE)
    raw = memoryview(bytearray(byte & mask for byte in noise))
    strain, switches = Strain(raw[: Strain.SIZE]), Switches(raw[Strain.SIZE :])
    assert len(strain.rows()) <= ROWS
    number, row = strain.question
    assert 0 <= row < ROWS
    assert strain.answer[1] in How
    assert switches.get(strain.registered, row) in Switch
    assert switches.state(row).shown in Shown
    assert switches.granted >= 0
    strain.failures(row)
    strain.failed(row, 2**63)
    strain.ask(row)
    strain.end(number, How.BADLY)
    strain.register([ORDERS])
