"""The shelf: failed entries come back in the order in which they are due, also for a successor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support_shared import shared

from rsq.ipc.journal import JOURNAL_MAX, WAITING_MAX, Outcome, Waiting
from rsq.worker.recovery import from_table
from rsq.worker.shelf import Letter, Shelf

LETTER = Letter(b"9-0", 3, Outcome.DEAD_CRASH, "crash: SIGSEGV", "died", "")


def _shelf() -> tuple[Waiting, Shelf]:
    table = Waiting(shared(Waiting.SIZE))
    assert table.load() == {}
    return table, Shelf(table)


def test_entries_come_back_when_they_are_due_and_not_before() -> None:
    _, shelf = _shelf()
    assert shelf.next_due is None
    for entry, due in ((b"1-0", 30.0), (b"2-0", 10.0), (b"3-0", 20.0)):
        shelf.put(entry, 2, due)
    assert (len(shelf), shelf.ids) == (3, {b"1-0", b"2-0", b"3-0"})
    assert shelf.next_due == 10.0
    assert shelf.take(9.9, 10) == []
    assert [due.entry for due in shelf.take(20.0, 10)] == [b"2-0", b"3-0"]
    assert shelf.ids == {b"1-0"}
    assert [due.entry for due in shelf.take(99.0, 10)] == [b"1-0"]


def test_no_more_than_wanted_are_taken() -> None:
    _, shelf = _shelf()
    for number in range(10):
        shelf.put(b"%d-0" % number, 2, 1.0)
    assert len(shelf.take(5.0, 3)) == 3
    assert len(shelf) == 7


def test_a_taken_entry_stays_in_the_table_until_the_journal_has_it() -> None:
    """Between the two its process may die."""
    table, shelf = _shelf()
    shelf.put(b"1-0", 2, 1.0)
    shelf.take(5.0, 1)
    assert table.load() == {b"1-0": (2, 1.0)}
    shelf.forget([b"1-0", b"7-7"])
    assert table.load() == {}


def test_a_dead_letter_that_cannot_be_written_waits_with_its_outcome() -> None:
    table, shelf = _shelf()
    shelf.put_letter(LETTER, 1.0)
    ((value, due),) = table.load().values()
    assert (from_table(value), due) == ((3, Outcome.DEAD_CRASH), 1.0)
    (taken,) = shelf.take(5.0, 1)
    assert (taken.attempt, taken.letter) == (3, LETTER)


def test_a_successor_finds_what_waits() -> None:
    table, shelf = _shelf()
    shelf.put(b"1-0", 2, 1.0)
    shelf.put_letter(LETTER, 2.0)
    successor = Shelf(table)
    for entry, (value, due) in table.load().items():
        successor.restore(entry, value, due, LETTER if from_table(value)[1] else None)
    assert [(due.entry, due.attempt, due.letter) for due in successor.take(5.0, 9)] == [
        (b"1-0", 2, None),
        (b"9-0", 3, LETTER),
    ]


def test_there_is_always_room_for_every_entry_of_two_further_reads() -> None:
    """One that is handled and one that was sent ahead: all of their entries may fail."""
    _, shelf = _shelf()
    count = 0
    while shelf.has_room():
        shelf.put(b"%d-0" % count, 2, 1.0)
        count += 1
    assert WAITING_MAX - count >= 2 * JOURNAL_MAX - 1


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 100), st.booleans()), max_size=60))
def test_table_and_memory_agree(happenings: list[tuple[int, float, bool]]) -> None:
    """Whatever is put and taken; two entries due at one time are no problem."""
    table, shelf = _shelf()
    model: dict[bytes, float] = {}
    for number, due, takes in happenings:
        entry = b"%d-5" % number
        if takes:
            taken = shelf.take(due, 3)
            assert all(item.at <= due for item in taken)
            assert [item.at for item in taken] == sorted(model.values())[: len(taken)]
            shelf.forget([item.entry for item in taken])
            for item in taken:
                del model[item.entry]
        elif entry not in shelf.ids:
            shelf.put(entry, 2, due)
            model[entry] = due
        assert {entry: due for entry, (_, due) in table.load().items()} == model
        assert shelf.ids == model.keys()
        assert shelf.next_due == min(model.values(), default=None)


def test_what_is_not_pending_any_more_is_taken_next_but_for_letters() -> None:
    _, shelf = _shelf()
    shelf.put(b"1-0", 2, 100.0)
    shelf.put(b"2-0", 2, 50.0)
    shelf.put_letter(Letter(b"3-0", 3, Outcome.DEAD_REJECTED, "rejected", "", ""), 70.0)
    shelf.hasten({b"1-0", b"3-0", b"9-0"})
    assert [due.entry for due in shelf.take(1.0, 10)] == [b"1-0"]
    assert [due.entry for due in shelf.take(100.0, 10)] == [b"2-0", b"3-0"]
