"""The ledger: all numbers of a slot change together, and survive every death of their writer."""

from __future__ import annotations

import os
import signal
import time
from bisect import bisect_left
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_shared import child, killed_anywhere, shared

from rsq.ipc.cells import CELL
from rsq.ipc.ledger import (
    BANK_CELLS,
    BATCH_BOUNDS,
    EVENT_NAME_MAX,
    EVENTS_MAX,
    HANDLER_BOUNDS,
    INDEX_BITS,
    RATE_SECONDS,
    WAIT_BOUNDS,
    C,
    Events,
    Histogram,
    Ledger,
    Rates,
)


def _fill(ledger: Ledger, number: int) -> None:
    for at in range(BANK_CELLS):
        ledger.sums.counters[at] = number


def _seen(raw: memoryview) -> tuple[set[int], int, int]:
    sums, batch, upto = Ledger(raw).read()
    return set(sums.counters.tolist()), batch, upto


def _histogram(bounds: tuple[float, ...], scale: float = 1e6) -> Histogram:
    return Histogram(shared(CELL * Histogram.size(bounds)).cast("Q"), bounds, scale)


def test_what_is_not_committed_is_not_seen() -> None:
    raw = shared(Ledger.SIZE * CELL)
    ledger = Ledger(raw)
    ledger.sums.counters[C.HANDLED] = 7
    sums, batch, upto = Ledger(raw).read()
    assert (sums.counters[C.HANDLED], batch, upto) == (0, 0, 0)
    ledger.commit(3, 5)
    sums, batch, upto = Ledger(raw).read()
    assert (sums.counters[C.HANDLED], batch, upto) == (7, 3, 5)


def test_a_copy_does_not_change_under_its_reader() -> None:
    raw = shared(Ledger.SIZE * CELL)
    ledger = Ledger(raw)
    ledger.sums.counters[C.READ] = 1
    ledger.commit(1, 1)
    sums, _, _ = Ledger(raw).read()
    for more in (2, 3):
        ledger.sums.counters[C.READ] = more
        ledger.commit(more, 0)
    assert sums.counters[C.READ] == 1


@given(place=st.tuples(st.integers(0, 2**42 - 1), st.integers(0, 2**INDEX_BITS - 1)))
def test_every_place_is_kept(place: tuple[int, int]) -> None:
    raw = shared(Ledger.SIZE * CELL)
    for _ in range(3):
        Ledger(raw).commit(*place)
        assert Ledger(raw).read()[1:] == place


def test_a_successor_goes_on_counting() -> None:
    raw = shared(Ledger.SIZE * CELL)
    for life in range(1, 2000):  # more than there are turns in a commit
        ledger = Ledger(raw)
        assert ledger.load() == (life - 1, 0)
        ledger.sums.counters[C.HANDLED] += 10
        ledger.sums.handler(3).add([0.2])
        ledger.commit(life, 0)
    sums, _, _ = Ledger(raw).read()
    assert sums.counters[C.HANDLED] == 19990
    assert sum(sums.handler(3).read()[0]) == 1999


def test_sums_are_old_or_new_wherever_the_writer_is_killed() -> None:
    raw = shared(Ledger.SIZE * CELL)
    seen = set()

    def prepare() -> None:
        ledger = Ledger(raw)
        _fill(ledger, 1)
        ledger.commit(1, 1)

    ledger = Ledger(raw)
    _fill(ledger, 2)

    def work() -> None:
        ledger.commit(2, 2)

    def check() -> None:
        numbers, batch, upto = _seen(raw)
        assert len(numbers) == 1, "old and new sums are mixed"
        seen.add((*numbers, batch, upto))

    assert killed_anywhere(raw, prepare, work, check) > 2
    assert seen == {(1, 1, 1), (2, 2, 2)}


def test_a_reader_beside_a_busy_writer_sees_no_mix_even_while_the_place_stays() -> None:
    raw = shared(Ledger.SIZE * CELL)

    def write(there: Callable[[], object]) -> None:
        ledger, number = Ledger(raw), 0
        banks = [memoryview(bytes([n]) * 8 * BANK_CELLS).cast("Q") for n in range(256)]
        while True:
            number += 1
            ledger.sums.counters[:] = banks[number & 255]
            ledger.commit(1, 1)
            if number == 3:
                there()

    with child(write) as writer:
        writer.ready()
        deadline, looked = time.monotonic() + 1.0, 0
        while time.monotonic() < deadline or looked <= 100:
            numbers, batch, upto = _seen(raw)
            assert len(numbers) == 1, f"old and new sums are mixed after {looked} good reads"
            assert (batch, upto) == (1, 1)
            looked += 1
        assert os.WTERMSIG(writer.kill()) == signal.SIGKILL
    assert len(_seen(raw)[0]) == 1


@given(st.lists(st.floats(0, 4000), max_size=50))
def test_a_histogram_counts_each_value_once_in_its_bucket(values: list[float]) -> None:
    for bounds in (HANDLER_BOUNDS, WAIT_BOUNDS):
        histogram = _histogram(bounds)
        histogram.add(values)
        expected = [0] * (len(bounds) + 1)
        for value in values:
            expected[bisect_left(bounds, value)] += 1
        counts, total = histogram.read()
        assert counts == expected
        assert total == pytest.approx(sum(values), abs=1e-3)


@given(st.lists(st.floats(-1, 4000), min_size=1, max_size=50))
def test_values_of_which_only_the_range_is_known_are_counted_in_their_one_bucket(values: list[float]) -> None:
    exact, quick = _histogram(WAIT_BOUNDS), _histogram(WAIT_BOUNDS)
    exact.add(values)
    if quick.add_between(min(values), max(values), len(values), sum(values)):
        assert quick.read() == exact.read()
    else:
        assert quick.read() == _histogram(WAIT_BOUNDS).read()
        assert min(values) < 0 or sum(1 for count in exact.read()[0] if count) > 1


def test_a_value_on_a_bound_belongs_below_it() -> None:
    """Prometheus buckets are `le`: less or equal."""
    batch = _histogram(BATCH_BOUNDS, 1)
    batch.add([1, 2, 1000, 1001])
    counts, total = batch.read()
    assert (counts[0], counts[1], counts[-2], counts[-1]) == (1, 1, 1, 1)
    assert total == 2004


def test_a_clock_that_goes_backwards_takes_nothing_away() -> None:
    wait = _histogram(WAIT_BOUNDS)
    wait.add([-5.0])
    counts, total = wait.read()
    assert (sum(counts), total) == (1, 0.0)


def test_histograms_of_a_ledger_do_not_overlap() -> None:
    ledger = Ledger(shared(Ledger.SIZE * CELL))
    histograms = [ledger.sums.wait, ledger.sums.batch, *map(ledger.sums.handler, range(EVENTS_MAX + 1))]
    for number, histogram in enumerate(histograms, 1):
        for at in range(len(histogram.cells)):
            histogram.cells[at] = number
    for counter in C:
        ledger.sums.counters[counter] = 99
    for number, histogram in enumerate(histograms, 1):
        assert set(histogram.cells.tolist()) == {number}


@given(st.lists(st.tuples(st.floats(0, 300), st.integers(0, 9), st.integers(0, 9)), max_size=60))
def test_rates_are_what_happened_in_the_last_sixty_seconds(moments: list[tuple[float, int, int]]) -> None:
    raw = shared(Rates.SIZE * CELL)
    rates = Rates(raw)
    now = 1000.0
    happened = []
    for step, came, went in moments:
        now += step
        rates.add(now, came, went)
        happened.append((int(now), came, went))
    recent = [moment for moment in happened if int(now) - 60 < moment[0]]
    assert Rates(raw).last_minute(now) == (sum(m[1] for m in recent), sum(m[2] for m in recent))


def test_rates_run_dry() -> None:
    rates = Rates(shared(Rates.SIZE * CELL))
    rates.add(100.0, 5, 4)
    assert rates.last_minute(159.9) == (5, 4)
    assert rates.last_minute(160.0) == (0, 0)
    assert rates.last_minute(100.0 + RATE_SECONDS) == (0, 0)


def test_an_event_keeps_its_row_over_the_deaths_of_its_writers() -> None:
    raw = shared(Events.SIZE * CELL)
    first = Events(raw)
    assert [first.row(b"order.created"), first.row(b"order.paid"), first.row(b"order.created")] == [1, 2, 1]
    successor = Events(raw)
    assert successor.names() == ["order.created", "order.paid"]
    assert successor.row(b"order.paid") == 2
    assert successor.row(b"\xff\xfe") == 3
    assert Events(raw).names()[2] == "\\xff\\xfe"


def test_a_stream_of_ever_new_events_shares_the_last_row() -> None:
    raw = shared(Events.SIZE * CELL)
    events = Events(raw)
    rows = [events.row(b"event-%d" % number) for number in range(1000)]
    assert rows[: EVENTS_MAX - 1] == list(range(1, EVENTS_MAX))
    assert set(rows[EVENTS_MAX - 1 :]) == {Events.OTHER}
    assert len(events.names()) == EVENTS_MAX - 1
    assert events.row(b"event-5") == 6


def test_long_names_are_cut_and_do_not_use_up_rows() -> None:
    raw = shared(Events.SIZE * CELL)
    events = Events(raw)
    rows = {events.row(b"x" * EVENT_NAME_MAX + b"%d" % number) for number in range(500)}
    assert rows == {1}
    assert events.names() == ["x" * EVENT_NAME_MAX]


@given(st.binary(min_size=Events.SIZE * CELL, max_size=Events.SIZE * CELL))
def test_names_can_be_read_from_any_bytes(noise: bytes) -> None:
    raw = shared(Events.SIZE * CELL)
    raw[:] = noise
    names = Events(raw).names()
    assert len(names) < EVENTS_MAX
    for name in names:
        name.encode()


def test_an_event_is_there_or_not_wherever_its_writer_is_killed() -> None:
    raw = shared(Events.SIZE * CELL)
    seen = set()

    def prepare() -> None:
        raw[:] = bytes(len(raw))
        Events(raw).row(b"first")

    def check() -> None:
        seen.add(tuple(Events(raw).names()))

    events = Events(raw)
    events.row(b"first")
    assert killed_anywhere(raw, prepare, lambda: events.row(b"second"), check) > 2
    assert seen == {("first",), ("first", "second")}
