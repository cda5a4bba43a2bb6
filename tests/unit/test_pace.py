"""COUNT follows the handler: one entry of a slow one, hundreds of a fast one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.worker.pace import READ_AHEAD_FROM, Pace
from rsq.worker.spec import Reading

READING = Reading(batch_max=500, batch_s=0.05, block_s=5.0, until_empty=False)


def _pace(handler_s: float = 0.0, entry_bytes: float = 0.0) -> Pace:
    return Pace(READING, handler_s, entry_bytes)


def _run(pace: Pace, handler_s: float) -> int:
    """Handle a batch of as many entries as are asked for; return how many."""
    count = pace.count(500)
    pace.opened(count)
    pace.handled(count, count * handler_s)
    return count


def test_a_worker_that_knows_nothing_reads_one_entry() -> None:
    assert _pace().count(500) == 1


def test_the_count_grows_by_a_limited_factor_for_a_fast_handler() -> None:
    """A guess from one entry may be wrong."""
    pace = _pace()
    counts = [_run(pace, 0.00001) for _ in range(17)]
    assert counts == [1, 2, 3, 4, 6, 9, 13, 19, 28, 42, 63, 94, 141, 211, 316, 474, 500]


def test_one_entry_of_a_slow_handler() -> None:
    pace = _pace()
    pace.handled(1, 3.0)
    assert pace.count(500) == 1


def test_a_batch_is_about_the_wanted_time_of_work() -> None:
    pace = _pace()
    for _ in range(12):
        _run(pace, 0.001)
    assert pace.count(500) == pytest.approx(50, abs=1)


def test_the_last_part_of_a_batch_is_no_small_batch() -> None:
    """A batch that takes a little longer than wanted is counted in two parts."""
    pace = _pace(0.001)
    pace.opened(50)
    pace.handled(48, 0.048)
    pace.handled(2, 0.002)
    assert pace.count(500) == 50


def test_it_shrinks_at_once_and_recovers_slowly() -> None:
    pace = _pace(0.0001)
    assert pace.count(500) == 500
    pace.handled(500, 500 * 0.05)
    assert pace.count(500) == 1
    pace.handled(1, 0.0001)
    assert 1 <= pace.count(500) <= 2


def test_a_successor_goes_on_with_what_its_predecessor_had_learnt() -> None:
    assert _pace(0.001).count(500) == 50


def test_while_a_neighbour_is_idle_a_batch_is_a_few_milliseconds() -> None:
    pace = _pace(0.001)
    assert pace.count(500, lambda: True) == 5
    assert pace.count(500, lambda: False) == 50


def test_a_fast_handler_does_not_look_for_idle_neighbours() -> None:
    assert _pace(0.00001).count(500, lambda: pytest.fail("it looked")) == 500


def test_who_looks_idle_while_there_is_more_than_is_asked_for_only_waits_for_its_own() -> None:
    """Workers that share a core wait for it with a reply at hand; batches of a few would starve them all."""
    pace = _pace(0.001)
    pace.received(50, 5000, 50)
    assert pace.count(500, lambda: True) == 50
    pace.received(49, 4900, 50)
    assert pace.count(500, lambda: True) == 5, "the stream runs dry"
    pace.received(7, 700, 7)
    assert pace.count(500, lambda: True) == 5, "few say nothing"


def test_large_entries_are_read_few_at_a_time() -> None:
    pace = _pace(0.00001)
    pace.received(10, 10 * (4 << 20), 10)
    assert pace.count(500) == 4
    pace.received(1, 100 << 20, 4)
    assert pace.count(500) == 1


def test_nothing_is_learnt_from_nothing() -> None:
    pace = _pace(0.001, 100.0)
    pace.handled(0, 1.0)
    pace.received(0, 0, 5)
    assert (pace.handler_s, pace.entry_bytes) == (0.001, 100.0)


def test_the_next_read_goes_ahead_only_of_short_work_on_a_full_stream() -> None:
    """Read ahead of a slow handler, entries would wait here while a neighbour is idle."""
    pace = _pace(0.0001)
    assert pace.ahead(500, 500)
    assert not pace.ahead(499, 500), "the stream runs dry"
    assert not pace.ahead(READ_AHEAD_FROM - 1, READ_AHEAD_FROM - 1)
    assert not _pace(0.01).ahead(50, 50)


@given(
    st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1000), st.integers(0, 1 << 30))),
    st.integers(1, 10_000),
)
def test_the_count_is_always_possible(runs: list[tuple[int, float, int]], room: int) -> None:
    pace = _pace()
    for entries, seconds, size in runs:
        pace.handled(entries, seconds)
        pace.received(entries, size, room)
        assert 1 <= pace.count(room) <= min(500, room)
