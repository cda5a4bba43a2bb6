"""What the pending list says of an entry, and what it does not."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.streams import keys, marks
from rsq.streams.group import Pending, merged
from rsq.streams.marks import RESTING_MS, SUSPECT_MS, Mark


@given(st.text(min_size=1), st.integers(0, 10**8), st.sampled_from(list(Mark)))
def test_an_owner_is_a_slot_and_a_mark(instance: str, slot: int, mark: Mark) -> None:
    consumer = keys.consumer(instance, slot)
    assert marks.split(marks.owner(consumer, mark)) == (consumer, mark)
    assert marks.owner(consumer, mark) in marks.owners(consumer)


@pytest.mark.parametrize(
    "name", ["cron", "rest", ":rest", "mail:rest", "mail:x:rest", "mail:01:rest", ":1:rest", "a:1:rest:1"]
)
def test_a_name_that_is_none_of_ours_stays_whole(name: str) -> None:
    assert marks.split(name) == (name, Mark.HELD)


@given(st.sampled_from(list(Mark)), st.integers(0, 2**38), st.booleans())
def test_a_mark_is_read_as_it_was_set_by_this_version_and_by_those_before(
    mark: Mark, untouched_ms: int, old: bool
) -> None:
    owner, idle_ms = marks.place("web-1:3", mark, old=old)
    row = Pending(b"1-0", owner.encode(), idle_ms + untouched_ms, 1)
    assert (row.slot, row.reading) == (b"web-1:3", (mark, untouched_ms))
    assert (row.rests, row.is_suspect) == (mark is not Mark.HELD, mark is Mark.SUSPECT)


def test_scripts_know_the_same_numbers_and_words() -> None:
    text = marks.SCRIPT.decode()
    assert tuple(map(int, re.findall(r"\d{9,}", text))) == (RESTING_MS, SUSPECT_MS)
    assert re.findall(r"= '(:\w+)', '(:\w+)'", text) == [(":rest", ":suspect")]
    assert marks.owners("x:1") == ("x:1", "x:1:rest", "x:1:suspect")


def test_rows_of_several_owners_are_in_the_order_of_ids_and_each_is_there_once() -> None:
    """The later answer counts: it was put to rest in between."""
    held = [[b"2-0", b"x:1", 5, 1], [b"10-0", b"x:1", 5, 1]]
    rests = [[b"3-0", b"x:1:rest", 5, 0], [b"10-0", b"x:1:rest", 0, 0]]
    found = merged([held, rests, []])
    assert [row.entry for row in found] == [b"2-0", b"3-0", b"10-0"]
    assert [row.rests for row in found] == [False, True, True]
