"""Helpers: when a child counts as hung, and one that cannot be started."""

from __future__ import annotations

import pytest

from rsq.supervisor.helpers import Helper, Pulse
from rsq.supervisor.spawn import Child


def test_a_child_that_is_silent_for_too_long_is_late() -> None:
    pulse = Pulse(1.0)
    pulse.begin(100.0)
    assert not pulse.late(5.0, 100.5)
    assert not pulse.late(5.0, 101.4)
    assert pulse.due == 101.51
    assert pulse.late(5.0, 101.6)


def test_a_sign_of_life_counts_from_when_it_was_seen() -> None:
    pulse = Pulse(1.0)
    pulse.begin(100.0)
    for at in range(10):
        assert not pulse.late(float(at), 100.0 + 0.9 * at)


def test_what_the_master_slept_through_does_not_count() -> None:
    """Whoever stopped the master may have stopped all of the pool."""
    pulse = Pulse(1.0)
    pulse.begin(100.0)
    assert not pulse.late(5.0, 100.5)
    assert not pulse.late(5.0, 160.0)
    assert not pulse.late(5.0, 160.9)
    assert pulse.late(5.0, 161.1)


def test_a_new_child_has_time_to_begin() -> None:
    pulse = Pulse(1.0)
    pulse.begin(100.0)
    pulse.late(5.0, 100.5)
    pulse.late(5.0, 101.4)
    pulse.begin(101.6)
    assert not pulse.late(5.0, 102.5)
    assert pulse.late(5.0, 102.7)


@pytest.mark.parametrize("error", [OSError("no process"), ValueError("no folder"), RuntimeError("is locked")])
def test_a_helper_that_cannot_be_started_is_tried_again(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """As an embedded server whose lock a child of the one before has for a moment: nobody dies of it."""

    def start() -> Child:
        raise error

    helper = Helper("server", start)
    helper.ensure(100.0)
    assert (helper.child, helper.due) == (None, 105.0)
    assert f"server: cannot be started: {error}" in caplog.text
