"""The batcher: every entry is in one call, none waits too long, no call is too large."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.streams.entry import Message, Raw
from rsq.worker.batcher import Batcher, said_done
from rsq.worker.router import Gather

GATHERS = {0: Gather(3, 1.0), 1: Gather(2, 5.0)}


def entries(*numbers: int) -> list[tuple[Raw, int]]:
    return [([b"%d-0" % number, []], 1) for number in numbers]


def ids(load: Any) -> list[bytes]:
    return [] if load is None else [item.entry[0] for item in load.items]


def test_a_full_call_is_due_at_once() -> None:
    batcher = Batcher(GATHERS)
    batcher.add(0, entries(1, 2), 10.0)
    assert (batcher.take(10.5), batcher.due, batcher.missing) == (None, 11.0, 1)
    batcher.add(0, entries(3, 4), 10.5)
    assert batcher.due == 0.0
    assert ids(batcher.take(10.5)) == [b"1-0", b"2-0", b"3-0"]
    assert (batcher.take(10.5), batcher.due, len(batcher)) == (None, 11.5, 1), "the fourth came later"


def test_what_has_come_when_the_first_has_waited_long_enough() -> None:
    batcher = Batcher(GATHERS)
    batcher.add(0, entries(1), 10.0)
    batcher.add(0, entries(2), 10.9)
    assert batcher.take(10.99) is None
    assert ids(batcher.take(11.0)) == [b"1-0", b"2-0"]
    assert (batcher.due, batcher.missing, batcher.ids) == (None, 0, set())


def test_handlers_gather_for_themselves() -> None:
    batcher = Batcher(GATHERS)
    batcher.add(0, entries(1), 10.0)
    batcher.add(1, entries(2), 10.0)
    assert (batcher.missing, batcher.due) == (2, 11.0)
    load = batcher.take(11.0)
    assert load is not None
    assert (load.key, ids(load)) == (0, [b"1-0"])
    assert batcher.ids == {b"2-0"}


def test_what_waits_for_long_is_recorded_once() -> None:
    """Not before it has waited for a second, and not when its call is due."""
    batcher = Batcher(GATHERS)
    batcher.add(1, entries(1), 10.0)
    batcher.add(0, entries(2), 10.0)
    assert (batcher.to_record(10.9), batcher.wake) == ([], 11.0)
    (item,) = batcher.to_record(11.0)
    assert item.entry[0] == b"1-0"
    batcher.recorded.add(b"1-0")
    assert ids(batcher.take(11.0)) == [b"2-0"]
    assert (batcher.to_record(14.9), batcher.wake) == ([], 15.0)
    batcher.add(1, entries(3), 14.9)
    assert batcher.wake == 0.0
    batcher.clear()
    assert batcher.recorded == set()


def test_who_has_to_run_alone_does_so_at_once() -> None:
    batcher = Batcher(GATHERS)
    batcher.alone |= {b"2-0", b"3-0"}
    batcher.add(0, entries(1, 2, 3), 10.0)
    assert (batcher.due, len(batcher)) == (0.0, 3)
    assert [ids(batcher.take(10.0)) for _ in range(3)] == [[b"2-0"], [b"3-0"], []]


def test_in_a_hurry_nobody_waits() -> None:
    batcher = Batcher(GATHERS)
    batcher.add(0, entries(1), 10.0)
    assert ids(batcher.take(10.0, hurry=True)) == [b"1-0"]


@pytest.mark.parametrize("alone", [set(), {b"1-0"}])
def test_what_was_put_back_is_first_again(alone: set[bytes]) -> None:
    batcher = Batcher(GATHERS, alone=alone)
    batcher.add(0, entries(1, 2), 10.0)
    load = batcher.take(11.0)
    assert load is not None
    batcher.put_back(load)
    assert ids(batcher.take(11.0)) == ids(load)


def test_what_is_cleared_is_returned() -> None:
    batcher = Batcher(GATHERS, alone={b"2-0"})
    batcher.add(0, entries(1, 2), 10.0)
    assert {item.entry[0] for item in batcher.clear()} == {b"1-0", b"2-0"}
    assert (len(batcher), batcher.due, batcher.alone) == (0, None, {b"2-0"})


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1]), st.integers(0, 4), st.floats(0, 3), st.booleans()), max_size=30
    ),
    st.sets(st.integers(0, 60), max_size=8),
)
def test_any_arrivals(steps: list[tuple[int, int, float, bool]], single: set[int]) -> None:
    """Each entry is in exactly one call, in order, alone if it has to be; no later than it is due."""
    batcher = Batcher(GATHERS, alone={b"%d-0" % number for number in single})
    now, number = 0.0, 0
    came: dict[bytes, tuple[int, float]] = {}
    calls: list[tuple[int, list[bytes]]] = []
    for key, count, pause, hurry in steps:
        now += pause
        fresh = entries(*range(number, number + count))
        number += count
        came |= {entry[0]: (key, now) for entry, _ in fresh}
        batcher.add(key, fresh, now)
        due = batcher.due
        load = batcher.take(now, hurry=hurry)
        assert (load is not None) == ((due is not None and due <= now) or (hurry and due is not None))
        while load is not None:
            calls.append((load.key, ids(load)))
            assert 1 <= len(load.items) <= GATHERS[load.key].size
            load = batcher.take(now)
        assert batcher.ids == came.keys() - {entry for _, call in calls for entry in call}
        for entry in batcher.ids:
            assert now < came[entry][1] + GATHERS[came[entry][0]].wait_s
    while (load := batcher.take(now, hurry=True)) is not None:
        calls.append((load.key, ids(load)))
    everything = [entry for _, call in calls for entry in call]
    assert sorted(everything) == sorted(came)
    for key, call in calls:
        assert all(came[entry][0] == key for entry in call)
        assert len(call) == 1 or not batcher.alone & set(call)
    for key in GATHERS:
        order = [e for k, call in calls if k == key for e in call if e not in batcher.alone]
        assert order == [e for e, (k, _) in came.items() if k == key and e not in batcher.alone]


# What a handler returns


def test_ids_and_messages_are_done() -> None:
    places = ["1-0", "2-0", "3-0"]
    assert said_done(["1-0", b"2-0", Message([b"3-0", []], None)], places) == (set(places), [])
    assert said_done(iter(()), places) == (set(), [])
    assert said_done({"2-0": "a dict has its keys"}, places) == ({"2-0"}, [])


def test_words_that_mean_no_entry_of_the_call() -> None:
    done, strange = said_done(["9-0", None, "2-0", 3], ["1-0", "2-0"])
    assert (done, strange) == ({"2-0"}, ["'9-0'", "None", "3"])


@pytest.mark.parametrize("result", [True, 3, "1-0", b"1-0", 1.5])
def test_what_is_no_list(result: object) -> None:
    with pytest.raises(TypeError, match="returns the ids, or the messages, that are done"):
        said_done(result, ["1-0"])
