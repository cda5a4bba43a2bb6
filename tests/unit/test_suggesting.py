"""Suggesting: OUT, IN or NO_SCALE for scalers outside, from what Redis says alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.streams.fleet import Report
from rsq.streams.orders import Order
from rsq.streams.survey import Instance, Survey
from rsq.supervisor.suggesting import Decision, suggest

NOW_MS = 1_800_000_000_000


def web(
    name: str = "web-1", slots: int = 4, *, rate: float = 10.0, busy: float = 4.0, alive: bool = True
) -> Instance:
    said = Report("h", 1, "1", 0.0, 0.0, 15.0, dict.fromkeys(range(slots), "busy"), rate, busy)
    return Instance(name, said, 9000 if alive else None)


def seen(
    *instances: Instance, lag: int = 0, known: bool = True, age_s: float = 0.0, pending: int = 0
) -> Survey:
    unread = f"{NOW_MS - int(age_s * 1000)}-0" if lag else None
    return Survey(
        "orders", "mailer", NOW_MS, 10, True, lag, known, pending, "0-0", unread, None, None, "orders:dlq", 0,
        None, 0, instances,
    )  # fmt: skip


def test_a_backlog_that_takes_too_long() -> None:
    found = suggest(seen(web(), web("web-2"), lag=4800), 30)
    assert found.decision is Decision.OUT
    assert (found.rate, found.takes_s) == (2.0, 60.0)
    assert (found.workers, found.wanted) == (8, 16)
    assert (found.instances, found.wanted_instances) == (2, 4)


def test_a_backlog_that_is_cleared_in_time() -> None:
    found = suggest(seen(web(), lag=1000), 30)
    assert (found.decision, found.wanted) == (Decision.NO_SCALE, 4)
    assert found.rate == pytest.approx(1000 / 40 / 30)


def test_fewer_would_be_enough() -> None:
    found = suggest(seen(web(busy=0.9), web("web-2", busy=0.1)), 30)
    assert (found.decision, found.rate, found.wanted, found.wanted_instances) == (Decision.IN, 0.0, 2, 1)


def test_those_that_are_gone_do_not_count() -> None:
    assert suggest(seen(web(), web("web-2", alive=False)), 30).workers == 4


def test_from_nothing_and_back_to_nothing() -> None:
    """A scaler that may scale to zero: something waits, so one is needed; nothing does, so none is."""
    assert suggest(seen(lag=1), 30).decision is Decision.OUT
    assert suggest(seen(pending=1), 30).decision is Decision.OUT
    assert suggest(seen(), 30).decision is Decision.NO_SCALE
    assert suggest(seen(web(slots=1, busy=0.0)), 30).wanted == 0
    assert suggest(seen(web(slots=1, busy=0.0), pending=1), 30).wanted == 1
    assert suggest(seen(web(slots=1, busy=0.0)), 30, least=1).decision is Decision.NO_SCALE


def test_a_lag_that_is_not_known_exactly() -> None:
    """At least so many: more if the oldest waits too long, never fewer."""
    assert suggest(seen(web(busy=0.0), lag=1000, known=False, age_s=20), 30).decision is Decision.NO_SCALE
    assert suggest(seen(web(busy=4.0), lag=1000, known=False, age_s=31), 30).wanted == 5


def test_a_rate_that_is_not_known() -> None:
    found = suggest(seen(web(rate=0.0, busy=0.0), lag=1000, age_s=5), 30)
    assert (found.decision, found.rate) == (Decision.NO_SCALE, None)
    assert suggest(seen(web(rate=0.0, busy=0.0), lag=1000, age_s=31), 30).decision is Decision.OUT


def test_a_server_that_says_there_is_a_lag_where_nothing_is_unread() -> None:
    wrong = replace(seen(web(busy=0.0), lag=10**6), unread=None)
    assert (suggest(wrong, 30).decision, suggest(wrong, 30).backlog) == (Decision.IN, 0)


def test_a_paused_group_is_left_alone() -> None:
    paused = replace(seen(web(), lag=10**6), pause=Order("ann", 1.0))
    assert suggest(paused, 30).decision is Decision.NO_SCALE


@given(
    st.lists(
        st.builds(
            web,
            slots=st.integers(0, 9),
            rate=st.floats(0, 1e6),
            busy=st.floats(0, 9),
            alive=st.booleans(),
        ),
        max_size=5,
    ),
    st.integers(0, 10**9),
    st.booleans(),
    st.floats(0, 1e6),
    st.integers(0, 10**6),
    st.integers(0, 5),
    st.integers(5, 50),
)
def test_whatever_is_seen_the_parts_agree(
    instances: list[Instance], lag: int, known: bool, age_s: float, pending: int, least: int, most: int
) -> None:
    found = suggest(seen(*instances, lag=lag, known=known, age_s=age_s, pending=pending), 30, least, most)
    assert least <= found.wanted <= most
    assert (found.decision is Decision.OUT) == (found.wanted > found.workers)
    assert (found.decision is Decision.IN) == (found.wanted < found.workers)
