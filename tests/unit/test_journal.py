"""The journal: what a slot was doing can be read after any death, and never misleads."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st
from support_shared import killed_anywhere, shared

from rsq.ipc.cells import CELL
from rsq.ipc.journal import (
    BANK_SIZE,
    ID_MAX,
    JOURNAL_MAX,
    WAITING_MAX,
    Batch,
    Journal,
    Kind,
    Outcome,
    Waiting,
)
from rsq.ipc.ledger import INDEX_BITS
from rsq.ipc.slot import SLOT_SIZE, Slot

IDS = st.builds(b"%d-%d".__mod__, st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)))


def _journal() -> tuple[memoryview, Journal]:
    raw = shared(2 * BANK_SIZE)
    return raw, Journal(raw)


def _ids(count: int, first: int = 1) -> list[bytes]:
    return [b"1526-%d" % number for number in range(first, first + count)]


@given(st.lists(st.tuples(IDS, st.integers(1, 2**63)), max_size=JOURNAL_MAX), st.sampled_from(Kind))
@settings(max_examples=50)
def test_a_batch_is_read_as_it_was_written(entries: list[tuple[bytes, int]], kind: Kind) -> None:
    raw, journal = _journal()
    ids, attempts = [entry[0] for entry in entries], [entry[1] for entry in entries]
    assert journal.open(ids, attempts, kind) == 1
    zeros = (0.0,) * (len(ids) + 1)
    done = (Outcome.OPEN if kind is Kind.CALL else Outcome.DONE,) * len(ids)
    assert Journal(raw).batches() == [Batch(1, kind, tuple(ids), tuple(attempts), done, zeros)]


def test_the_longest_ids_fit() -> None:
    raw, journal = _journal()
    ids = [b"%020d-%020d" % (2**64 - 1, 2**64 - 1)] * JOURNAL_MAX
    assert len(ids[0]) < ID_MAX
    journal.open(ids)
    assert list(Journal(raw).batches()[0].ids) == ids


def test_both_banks_are_kept_and_the_older_one_is_overwritten() -> None:
    raw, journal = _journal()
    for number in range(1, 8):
        assert journal.open(_ids(number)) == number
        kept = [batch.number for batch in Journal(raw).batches()]
        assert kept == [number - 1, number][-number:]
    assert Journal(raw).open(_ids(1)) == 8, "a successor goes on with the numbers"


def test_a_short_batch_shows_nothing_of_the_long_one_before_it() -> None:
    raw, journal = _journal()
    for _ in range(2):
        journal.open(_ids(900), [7] * 900)
        journal.marks[:901] = memoryview(bytes(range(1, 2)) * 901 * 8).cast("d")
        journal.outcomes[:900] = bytes([Outcome.LOST]) * 900
    journal.open(_ids(3))
    newest = Journal(raw).batches()[-1]
    assert newest.attempts == (1, 1, 1)
    assert newest.outcomes == (Outcome.DONE,) * 3
    assert newest.marks == (0.0,) * 4
    assert newest.started == 0


def test_marks_say_which_entries_are_finished_and_which_one_runs() -> None:
    raw, journal = _journal()
    number = journal.open(_ids(3))
    seen = []
    for at in range(4):
        journal.marks[at] = 10.0 + at
        newest = Journal(raw).batches()[-1]
        seen.append((newest.started, Journal(raw).place()))
    last = ((number << INDEX_BITS) | 2, 12.0, b"1526-3")
    assert seen == [
        (1, (number << INDEX_BITS, 10.0, b"1526-1")),
        (2, ((number << INDEX_BITS) | 1, 11.0, b"1526-2")),
        (3, last),
        (4, last),
    ]


def test_a_place_never_repeats() -> None:
    raw, journal = _journal()
    places = set()
    for _ in range(20):
        journal.open(_ids(5))
        for at in range(5):
            journal.marks[at] = 1.0
            place = Journal(raw).place()
            assert place is not None
            places.add(place[0])
    assert len(places) == 100


def test_what_is_finished_but_not_counted() -> None:
    raw, journal = _journal()
    reader = Journal(raw)
    assert reader.finished(0, 0) == (b"", 0)
    journal.open(_ids(4), [1, 2, 1, 1])
    assert reader.finished(0, 0) == (b"", 0)
    journal.marks[0] = 1.0
    assert reader.finished(0, 0) == (b"", 0), "it has started, no more"
    journal.outcomes[0] = Outcome.WAITING
    journal.marks[1] = 2.0
    assert reader.finished(1, 0) == (bytes([Outcome.WAITING]), 1)
    journal.marks[2] = 3.0
    assert reader.finished(1, 0) == (bytes([Outcome.WAITING, Outcome.DONE]), 1)
    assert reader.finished(1, 1) == (bytes([Outcome.DONE]), 0), "the first one is in the sums"
    journal.marks[3], journal.marks[4] = 4.0, 5.0
    journal.open(_ids(1, 9))
    journal.marks[0], journal.marks[1] = 6.0, 7.0
    outcomes, firsts = reader.finished(1, 3) or (b"", 0)
    assert (outcomes, firsts) == (bytes([Outcome.DONE] * 2), 2), "the rest of one batch, and the next one"
    assert reader.finished(2, 1) == (b"", 0)
    assert reader.finished(99, 0) == (b"", 0)


def test_claimed_pages_are_no_work_to_count() -> None:
    raw, journal = _journal()
    journal.open(_ids(3), kind=Kind.CLAIM)
    journal.marks[0], journal.marks[1] = 1.0, 2.0
    assert Journal(raw).finished(0, 0) == (b"", 0)


def test_a_forgotten_journal_is_empty_and_its_numbers_go_on() -> None:
    raw, journal = _journal()
    journal.open(_ids(3))
    journal.forget()
    assert [batch.ids for batch in Journal(raw).batches()] == [(), ()]
    assert Journal(raw).place() is None
    assert Journal(raw).open(_ids(1)) == 4


def test_a_batch_is_there_or_not_wherever_its_writer_is_killed() -> None:
    raw, journal = _journal()
    ids, attempts = _ids(3, 200), [1, 3, 2]
    seen = set()
    kept: list[Batch] = []

    def prepare() -> None:
        raw[:] = bytes(len(raw))
        first = Journal(raw)
        for start in (1, 100):  # both banks hold something, with all its marks set
            first.open(_ids(2, start))
            first.marks[:3] = memoryview(b"\x01" * 24).cast("d")
        journal.number = 2
        kept[:] = first.batches()

    def check() -> None:
        batches = Journal(raw).batches()
        assert Journal(raw).open(_ids(1)) >= 3
        assert kept[1] in batches
        new = Batch(3, Kind.RUN, tuple(ids), tuple(attempts), (Outcome.DONE,) * 3, (0.0,) * 4)
        assert all(batch in (*kept, new) for batch in batches)
        seen.add(tuple(batch.number for batch in batches))

    assert killed_anywhere(raw, prepare, lambda: journal.open(ids, attempts), check) > 2
    assert seen == {(1, 2), (2,), (2, 3)}


@st.composite
def _torn(draw: st.DrawFn, size: int) -> bytes:
    """Return memory in which single cells, whole stretches or everything is nonsense."""
    raw = bytearray(size)
    journal = Journal(memoryview(raw)) if size == 2 * BANK_SIZE else None
    if journal is not None:
        for _ in range(draw(st.integers(0, 2))):
            count = draw(st.integers(0, JOURNAL_MAX))
            journal.open(_ids(count))
            journal.marks[: count // 2] = memoryview(b"\x3f" * 8 * (count // 2)).cast("d")
    for _ in range(draw(st.integers(1, 6))):
        noise = draw(st.one_of(st.binary(min_size=1, max_size=64), st.just(b"\xff" * 8)))
        at = draw(st.one_of(st.integers(0, size - len(noise)), st.integers(0, 15).map(lambda cell: 8 * cell)))
        raw[at : at + len(noise)] = noise
    return bytes(raw)


@given(_torn(2 * BANK_SIZE))
@settings(max_examples=300, deadline=None)
def test_any_bytes_can_be_read_as_a_journal(noise: bytes) -> None:
    raw = shared(2 * BANK_SIZE)
    raw[:] = noise
    journal = Journal(raw)
    for batch in journal.batches():
        assert len(batch.ids) == len(batch.attempts) == len(batch.outcomes)
        assert 0 <= batch.started <= len(batch.ids) + 1
    place = journal.place()
    assert place is None or isinstance(place[2], bytes)
    for at in ((0, 0), (1, 5), (2**51, 4095)):
        outcomes, firsts = journal.finished(*at) or (b"", 0)
        assert 0 <= firsts <= len(outcomes) <= 2 * JOURNAL_MAX


@given(st.integers(0, 2**64 - 1), st.integers(0, BANK_SIZE // CELL - 1), st.integers(0, 1))
@settings(max_examples=300, deadline=None)
def test_a_journal_with_one_wrong_cell_is_read_or_refused(wrong: int, cell: int, bank: int) -> None:
    raw, journal = _journal()
    journal.open(_ids(50))
    journal.open(_ids(50, 100))
    raw.cast("Q")[bank * (BANK_SIZE // CELL) + cell] = wrong
    assert len(Journal(raw).batches()) <= 2
    Journal(raw).place()
    Journal(raw).finished(0, 0)


@given(
    st.binary(min_size=0, max_size=4096), st.integers(0, SLOT_SIZE - 4096), st.binary(min_size=1, max_size=1)
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_can_be_read_as_a_slot(noise: bytes, at: int, filler: bytes) -> None:
    raw = shared(SLOT_SIZE)
    raw[:] = filler * SLOT_SIZE
    raw[at : at + len(noise)] = noise
    slot = Slot(raw)
    slot.journal.batches()
    slot.journal.place()
    slot.journal.finished(0, 0)
    slot.waiting.load()
    slot.events.names()
    slot.ledger.read()
    slot.rates.last_minute(100.0)
    slot.pipe.take()
    assert slot.pipe.take() == []


def test_the_parts_of_a_slot_do_not_overlap() -> None:
    slot = Slot(shared(SLOT_SIZE))
    for cell in range(slot.seat.SIZE):
        slot.seat.view[cell] = 2**64 - 1
    assert not any(slot.desk.view)
    for cell in range(slot.desk.SIZE):
        slot.desk.view[cell] = 2**64 - 1
    assert slot.ledger.load() == (0, 0)
    assert not any(slot.ledger.sums.counters)
    slot.ledger.sums.counters[-1] = 1
    slot.ledger.commit(1, 1)
    slot.ledger.commit(1, 1)
    assert slot.rates.last_minute(0.0) == (0, 0)
    for number in range(100):
        slot.events.row(b"\xff" * 60 + b"%d" % number)
    assert slot.journal.batches() == []
    for _ in range(2):
        slot.journal.open(_ids(JOURNAL_MAX))
        slot.journal.marks[:] = memoryview(b"\x3f" * 8 * len(slot.journal.marks)).cast("d")
    assert slot.waiting.load() == {}
    for number in range(WAITING_MAX):
        slot.waiting.put(b"%d-1" % number, 1, math.pi)
    assert slot.pipe.take() == []
    assert slot.pipe.dropped == 0
    slot.pipe.put({"kind": "note"})
    assert len(slot.waiting.load()) == WAITING_MAX


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "drop", "die"]),
            st.integers(0, 12),
            st.integers(1, 99),
            st.floats(0, 1e9),
        ),
        max_size=60,
    )
)
def test_the_waiting_table_is_a_dictionary(steps: list[tuple[str, int, int, float]]) -> None:
    raw = shared(Waiting.SIZE)
    table = Waiting(raw)
    assert table.load() == {}
    expected: dict[bytes, tuple[int, float]] = {}
    for what, number, attempt, due in steps:
        entry = b"%d-%d" % (number, 2**64 - 1 - number)
        if what == "put":
            table.put(entry, attempt, due)
            expected[entry] = attempt, due
        elif what == "drop":
            table.drop(entry)
            expected.pop(entry, None)
        else:
            table = Waiting(raw)
            table.load()
        assert table.free == WAITING_MAX - len(expected)
    assert Waiting(raw).load() == expected


def test_a_waiting_row_is_never_half_of_two_wherever_its_writer_is_killed() -> None:
    raw = shared(Waiting.SIZE)
    table = Waiting(raw)
    seen = set()

    def prepare() -> None:
        raw[: 64 * CELL] = bytes(64 * CELL)
        table.load()
        table.put(b"1-1", 1, 10.0)

    def work() -> None:
        table.put(b"1-1", 2, 20.0)
        table.drop(b"1-1")
        table.put(b"2-2", 3, 30.0)

    def check() -> None:
        found = Waiting(raw).load()
        seen.add(tuple(sorted(found.items())))

    assert killed_anywhere(raw, prepare, work, check) > 2
    assert seen == {
        ((b"1-1", (1, 10.0)),),
        (),
        ((b"1-1", (2, 20.0)),),
        ((b"2-2", (3, 30.0)),),
    }


# What one call handles


def test_the_entries_of_a_call_end_each_by_itself() -> None:
    raw, journal = _journal()
    journal.open(_ids(4), [1, 2, 1, 1], Kind.CALL)
    journal.marks[0] = 5.0
    assert journal.finished(0, 0) == (b"", 0)
    assert journal.place() == (1 << INDEX_BITS, 5.0, _ids(1)[0])
    journal.outcomes[1], journal.outcomes[2] = Outcome.DONE, Outcome.WAITING
    journal.outcomes[3] = Outcome.SUSPECT
    (batch,) = Journal(raw).batches()
    assert batch.ends == [None, Outcome.DONE, Outcome.WAITING, None]
    assert journal.finished(0, 0) == (bytes([Outcome.DONE, Outcome.WAITING]), 1)
    assert journal.finished(1, 4) == (b"", 0), "all of it is counted"
    assert (journal.together(), journal.open_ids()) == (4, [_ids(4)[0], _ids(4)[3]])
    journal.open(_ids(2))
    assert (journal.together(), journal.open_ids()) == (1, [])


def test_the_place_of_a_call_is_its_own_until_it_ends() -> None:
    _, journal = _journal()
    journal.open(_ids(3), [1, 1, 1], Kind.CALL)
    assert journal.place() is None
    journal.marks[0] = 5.0
    place = journal.place()
    journal.outcomes[:3] = bytes(3)
    assert journal.place() == place
    journal.marks[3] = 6.0
    assert journal.place() == place
