"""The tally: one rule for what a worker, its successor and a reader count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_shared import shared

from rsq.ipc.cells import CELL
from rsq.ipc.journal import Outcome
from rsq.ipc.ledger import DEAD, HANDLER_BOUNDS, C, Histogram, Ledger
from rsq.worker.tally import count_outcomes, count_times, count_waits, finished, times

UNFINISHED = (Outcome.HELD_BACK, Outcome.OPEN, Outcome.SUSPECT, Outcome.DEFERRED)


def _ledger() -> Ledger:
    return Ledger(shared(Ledger.SIZE * CELL))


def _counted(outcomes: list[Outcome], firsts: int = 0) -> tuple[dict[str, int], int]:
    counters = _ledger().sums.counters
    left = count_outcomes(counters, bytes(outcomes), firsts)
    return {counter.name: counters[counter] for counter in C if counters[counter]}, left


@pytest.mark.parametrize(
    ("outcome", "counted", "left"),
    [
        (Outcome.DONE, {"HANDLED": 1}, 1),
        (Outcome.WAITING, {"FAILED": 1, "RETRIED": 1}, 0),
        (Outcome.DEAD_MAX_ATTEMPTS, {"FAILED": 1, "DEAD_MAX_ATTEMPTS": 1}, 1),
        (Outcome.DEAD_CRASH, {"FAILED": 1, "DEAD_CRASH": 1}, 1),
        (Outcome.DEAD_TIMEOUT, {"FAILED": 1, "DEAD_TIMEOUT": 1}, 1),
        (Outcome.DEAD_DECODE, {"DEAD_DECODE": 1}, 1),
        (Outcome.DEAD_REJECTED, {"DEAD_REJECTED": 1}, 1),
        (Outcome.LOST, {"LOST": 1}, 1),
        (Outcome.DUPLICATE, {"DUPLICATES": 1}, 1),
        (Outcome.HELD_BACK, {}, 0),
        (Outcome.OPEN, {}, 0),
        (Outcome.SUSPECT, {}, 0),
        (Outcome.IGNORED, {"IGNORED": 1}, 1),
        (Outcome.DEAD_UNKNOWN_EVENT, {"DEAD_UNKNOWN_EVENT": 1}, 1),
        (Outcome.DEFERRED, {"DEFERRED": 1}, 0),
        (Outcome.DEAD_BREAKER, {"DEAD_BREAKER": 1}, 1),
    ],
)
def test_each_outcome_is_counted(outcome: Outcome, counted: dict[str, int], left: int) -> None:
    assert _counted([outcome]) == (counted, left)


def test_every_outcome_has_a_count() -> None:
    for outcome in Outcome:
        _counted([outcome])


@given(st.lists(st.sampled_from(Outcome)), st.integers(0, 5))
def test_every_entry_is_counted_once(outcomes: list[Outcome], firsts: int) -> None:
    """As handled, retried, dead, lost, or not at all because it is not finished."""
    counted, left = _counted(outcomes, firsts)
    assert counted.get("READ", 0) == firsts
    ends = ["HANDLED", "RETRIED", "LOST", "DUPLICATES", "IGNORED", *(counter.name for counter in DEAD)]
    total = sum(counted.get(name, 0) for name in ends)
    assert total == sum(outcome not in UNFINISHED for outcome in outcomes)
    assert left == total - counted.get("RETRIED", 0)


def test_handler_seconds_are_the_distances_of_marks() -> None:
    sums = _ledger().sums
    count_times(sums, [10.0, 10.5, 12.0], None)
    counts, total = sums.handler(0).read()
    assert (sum(counts), total) == (2, 2.0)


def test_handler_seconds_are_kept_per_event() -> None:
    sums = _ledger().sums
    count_times(sums, [0.0, 1.0, 3.0, 6.0], [0, 2, 2])
    assert [sums.handler(row).read()[1] for row in range(3)] == [1.0, 0.0, 5.0]


@given(
    st.lists(st.tuples(st.integers(1_000, 5_000_000), st.floats(0, 4000)), min_size=1, max_size=50),
    st.floats(0, 100),
)
def test_queue_waits_are_counted_as_one_by_one(rows: list[tuple[int, float]], epoch_s: float) -> None:
    """The short cut for entries that all fall into one bucket gives what the long way gives."""
    sums, model = _ledger().sums, _ledger().sums
    ids = [b"%d-%d" % (ms, at) for at, (ms, _) in enumerate(sorted(rows))]
    starts = sorted(start + 5000 for _, start in rows)
    count_waits(sums, ids, starts, epoch_s)
    waits = [
        start + epoch_s - int(entry.partition(b"-")[0]) / 1000
        for entry, start in zip(ids, starts, strict=True)
    ]
    model.wait.add(waits)
    assert sums.wait.read()[0] == model.wait.read()[0]
    assert sums.wait.read()[1] == pytest.approx(model.wait.read()[1], abs=0.01)


def test_a_clock_that_is_behind_the_servers_gives_no_negative_wait() -> None:
    sums = _ledger().sums
    count_waits(sums, [b"5000-0"], [1.0], 0.0)
    counts, total = sums.wait.read()
    assert (counts[0], sum(counts), total) == (1, 1, 0.0)


def test_no_entries_no_waits() -> None:
    sums = _ledger().sums
    count_waits(sums, [], [], 0.0)
    assert sums.wait.read() == ([0] * (Histogram.size(sums.wait.bounds) - 1), 0.0)


def test_a_reader_counts_attempts_that_have_come_to_an_end() -> None:
    ledger = _ledger()
    counters = ledger.sums.counters
    count_outcomes(counters, bytes(Outcome), 3)
    assert finished(ledger) == 0, "not committed"
    ledger.commit(1, len(Outcome))
    assert finished(ledger) == len(Outcome) - len(UNFINISHED)


def test_the_first_bucket_is_cheap_and_right() -> None:
    sums = _ledger().sums
    count_times(sums, [0.0] * 1001, None)
    counts, total = sums.handler(0).read()
    assert (counts[0], sum(counts), total) == (1000, 1000, 0.0)
    assert len(counts) == len(HANDLER_BOUNDS) + 1


@given(st.lists(st.tuples(st.integers(5, 12), st.integers(1, 300)), min_size=1, max_size=5))
def test_times_of_ids_are_their_milliseconds(bursts: list[tuple[int, int]]) -> None:
    """However many share a millisecond, and where the number of digits changes."""
    ids = [b"%d-%d" % (ms, seq) for ms, count in sorted(dict(bursts).items()) for seq in range(count)]
    assert times(ids) == [int(entry.partition(b"-")[0]) for entry in ids]
    later = [b"17952455%05d-%s" % (int(ms), seq) for ms, seq in (entry.split(b"-") for entry in ids)]
    assert times(later) == [int(entry.partition(b"-")[0]) for entry in later]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=30))
def test_waits_of_what_is_claimed_are_counted_in_any_order(came: list[int]) -> None:
    """The ids of a claim: what waited behind a long entry, then what was handed back before."""
    ids, starts = [b"%d000-0" % second for second in came], [30.0 + at for at in range(len(came))]
    counted, wanted = _ledger().sums, _ledger().sums
    count_waits(counted, ids, starts, 0.0, in_order=False)
    for start, second in zip(starts, came, strict=True):
        wanted.wait.add([start - second])
    assert counted.wait.read() == wanted.wait.read()
