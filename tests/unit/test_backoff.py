"""Pauses before a slot's next process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rsq.supervisor.backoff import FIRST_S, MAX_S, pause_s


def test_the_first_death_costs_no_pause_and_the_following_ones_ever_more() -> None:
    assert [pause_s(count) for count in range(6)] == [
        0.0,
        0.0,
        FIRST_S,
        2 * FIRST_S,
        4 * FIRST_S,
        8 * FIRST_S,
    ]


@given(st.integers(0, 10**9))
def test_it_grows_up_to_a_limit_and_never_fails(count: int) -> None:
    assert 0.0 <= pause_s(count) <= pause_s(count + 1) <= MAX_S
