"""What a keeper complains about: told in full, then counted once a minute, and reported while it lasts."""

from __future__ import annotations

import pytest
from support_shared import shared

from rsq.ipc.cells import CELL, K, Keep, Part
from rsq.supervisor.complaints import Complaints

MOVED = "MOVED 8985 127.0.0.1:7001"


class Clock:
    """Moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keep() -> Keep:
    return Keep(shared(Keep.SIZE * CELL))


@pytest.fixture
def complaints(keep: Keep, clock: Clock) -> Complaints:
    return Complaints("orders / mailer", keep, clock)


def test_an_error_is_told_in_full_and_then_counted_once_a_minute(
    complaints: Complaints, keep: Keep, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(121):
        complaints.add(Part.BREAKERS, MOVED)
        clock.now += 1
    told = [record.getMessage() for record in caplog.records]
    what = "orders / mailer: circuit breakers are as they were last known:"
    again = f"{what} 60 times more within 60 s: {MOVED}"
    assert told == [f"{what} {MOVED}", again, again]
    assert keep.view[K.ERRORS + Part.BREAKERS] == 121
    assert sum(keep.view[K.ERRORS + part] for part in Part) == 121


def test_the_same_error_in_other_words_is_not_told_again(
    complaints: Complaints, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for port in range(7001, 7010):
        complaints.add(Part.SWEEP, f"MOVED 8985 127.0.0.1:{port}")
        clock.now += 1
    assert len(caplog.records) == 1
    complaints.add(Part.SWEEP, "NOPERM this user may not")
    assert len(caplog.records) == 2


def test_what_lasts_is_reported_until_it_is_over(complaints: Complaints, clock: Clock) -> None:
    complaints.add(Part.LENDING, MOVED)
    assert complaints.lasting() == {}, "it may be over at once"
    clock.now += 5
    complaints.add(Part.LENDING, MOVED)
    assert complaints.lasting() == {"lending": f"no entries are lent to idle slots, for 5 s: {MOVED}"}
    complaints.over(Part.LENDING)
    assert complaints.lasting() == {}


def test_what_nobody_has_tried_again_is_over_some_time(complaints: Complaints, clock: Clock) -> None:
    """Nothing may have to be lent any more: that is no reason to warn for ever."""
    for _ in range(2):
        complaints.add(Part.LENDING, MOVED)
        clock.now += 5
    clock.now += 60
    assert complaints.lasting() == {}


def test_what_is_over_soon_need_not_be_told(
    complaints: Complaints, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    complaints.add(Part.LEASE, "no reply in time", after_s=2)
    clock.now += 1
    complaints.over(Part.LEASE)
    assert not caplog.records
    for _ in range(3):
        complaints.add(Part.LEASE, "no reply in time", after_s=2)
        clock.now += 1
    assert len(caplog.records) == 1
