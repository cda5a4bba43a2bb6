"""Marks: their names, and which entries of a batch are copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.ipc.journal import Outcome
from rsq.ipc.oncekeys import OnceKeys
from rsq.streams import keys
from rsq.streams.entry import Raw
from rsq.streams.envelope import AUTO
from rsq.streams.group import Group
from rsq.streams.once import Marks, Row
from rsq.worker.once import Once
from rsq.worker.verdict import Duplicate

_names = st.text(min_size=1, max_size=12).filter(lambda name: "}" not in name)
_keys = st.sampled_from("abcde")


@given(_names, _names, st.binary(max_size=300), st.binary(max_size=300))
def test_a_mark_is_its_groups_and_its_keys_alone(stream: str, group: str, key: bytes, other: bytes) -> None:
    """On a cluster it lies where the stream does, for one script touches both."""
    mark = keys.mark(stream, group, key)
    assert keys.same_slot(mark, stream)
    assert (mark == keys.mark(stream, group, other)) == (key == other)
    assert len(mark.encode("utf-8", "surrogateescape")) < 300


def test_a_script_names_its_keys_and_its_owner() -> None:
    marks = Marks("s", "g", "web:0")
    rows = [Row(b"1-0", "m1", 5), Row(b"2-0", "m2", 6)]
    for packed, owner in ((marks.ack(rows), b""), (marks.ack_own(rows), b"web:0")):
        reader = hiredis.Reader()
        reader.feed(packed)
        words: Any = reader.gets()
        assert words[0] == b"EVAL"
        assert words[2:] == [b"3", b"s", b"m1", b"m2", b"g", owner, b"1-0", b"5", b"2-0", b"6"]


class _Redis:
    """Answers for a session: which marks are there, and what is owed."""

    def __init__(self, there: set[str]) -> None:
        self.there = there
        self.acked: list[bytes] = []
        self.marked: list[str] = []

    def must(self, packed: bytes) -> list[bytes | None]:
        reader = hiredis.Reader()
        reader.feed(packed)
        words: Any = reader.gets()
        return [b"0-1" if name.decode() in self.there else None for name in words[1:]]

    def owe_ack(self, _batch: int, _group: Group, ids: Sequence[bytes]) -> None:
        self.acked += ids

    def owe_marks(self, _batch: int, _marks: Marks, rows: Sequence[Row]) -> None:
        self.acked += [row.entry for row in rows]
        self.marked += [row.mark for row in rows]


class _Journal:
    def __init__(self, size: int) -> None:
        self.outcomes = bytearray(size)
        self.number = 7


def _keys_of_a_slot() -> OnceKeys:
    return OnceKeys(memoryview(bytearray(OnceKeys.SIZE)))


@given(st.lists(st.tuples(_keys, st.booleans()), min_size=1, max_size=30), st.sets(_keys))
def test_each_key_is_handled_until_it_has_been(batch: list[tuple[str, bool]], there: set[str]) -> None:
    """Whatever fails: a key is handled once at most, tried until it was, and marked exactly then."""
    redis, journal = _Redis({keys.mark("s", "g", key.encode()) for key in there}), _Journal(len(batch))
    group: Any = Group("s", "g", "web:0")
    once = Once(lambda _: 60.0, AUTO, group, redis, journal, _keys_of_a_slot())  # type: ignore[arg-type]
    entries: list[Raw] = [
        [b"%d-0" % at, [b"data", b"", b"key", key.encode()]] for at, (key, _) in enumerate(batch, 1)
    ]
    once.begin(entries)
    handled: list[str] = []
    for at, (key, good) in enumerate(batch):
        try:
            once.refuse_copy(entries[at][0])
        except Duplicate:
            assert key in there or key in handled
            journal.outcomes[at] = Outcome.DUPLICATE
            continue
        assert key not in there
        assert key not in handled
        journal.outcomes[at] = Outcome.DONE if good else Outcome.WAITING
        handled += [key] if good else []
    once.owe_acks(1, [entry[0] for entry in entries], bytes(journal.outcomes))
    assert redis.marked == [keys.mark("s", "g", key.encode()) for key in handled]
    left = [
        entry[0] for entry, code in zip(entries, journal.outcomes, strict=True) if code != Outcome.WAITING
    ]
    assert sorted(redis.acked) == sorted(left)


def test_without_a_key_an_entry_is_known_by_its_id() -> None:
    redis, journal = _Redis({keys.mark("s", "g", b"1-0")}), _Journal(2)
    group: Any = Group("s", "g", "web:0")
    once = Once(lambda _: 60.0, AUTO, group, redis, journal, _keys_of_a_slot())  # type: ignore[arg-type]
    once.begin([[b"1-0", [b"data", b"{}"]], [b"2-0", [b"data", b"{}"]]])
    with pytest.raises(Duplicate):
        once.refuse_copy(b"1-0")
    once.refuse_copy(b"2-0")


def test_what_is_not_to_be_remembered_is_neither_looked_for_nor_marked() -> None:
    redis, journal = _Redis({keys.mark("s", "g", b"k")}), _Journal(3)
    group: Any = Group("s", "g", "web:0")
    once = Once(lambda entry: 60.0 * (entry[1][1] == b"1d"), AUTO, group, redis, journal, _keys_of_a_slot())  # type: ignore[arg-type]
    entries = [
        [b"%d-0" % at, [b"event", event, b"data", b"", b"key", b"k"]]
        for at, event in enumerate((b"1d", b""), 1)
    ]
    once.begin(entries)
    with pytest.raises(Duplicate):
        once.refuse_copy(b"1-0")
    once.refuse_copy(b"2-0")
    once.owe_acks(1, [b"1-0", b"2-0"], bytes([Outcome.DUPLICATE, Outcome.DONE]))
    assert (sorted(redis.acked), redis.marked) == ([b"1-0", b"2-0"], [])


@given(st.lists(st.tuples(_keys, st.booleans()), max_size=30))
def test_of_the_copies_in_a_call_the_first_goes_first(batch: list[tuple[str, bool]]) -> None:
    group: Any = Group("s", "g", "web:0")
    once = Once(lambda entry: 60.0 * (entry[1][1] == b"1d"), AUTO, group, None, None, None)  # type: ignore[arg-type]
    entries: list[Raw] = [
        [b"%d-0" % at, [b"event", b"1d" if remembered else b"", b"data", b"", b"key", key.encode()]]
        for at, (key, remembered) in enumerate(batch, 1)
    ]
    copies = once.copies(entries)
    first = {key: at for at, (key, remembered) in reversed(list(enumerate(batch, 1))) if remembered}
    assert copies == {
        b"%d-0" % at for at, (key, remembered) in enumerate(batch, 1) if remembered and first[key] != at
    }
