"""What may be lent, and who gets it."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rsq.ipc.journal import Batch, Kind, Outcome
from rsq.streams.lending import Row, rows
from rsq.streams.marks import Mark
from rsq.supervisor.lending import SHARE_MAX, deal, lendable

A, B, C, D, E = (b"%d-0" % n for n in range(1, 6))
OLD_MS = 1000


def _batch(number: int, ids: list[bytes], started: int, kind: Kind = Kind.RUN) -> Batch:
    marks = (1.0,) * started + (0.0,) * (len(ids) + 1 - started)
    return Batch(number, kind, tuple(ids), (1,) * len(ids), (Outcome.DONE,) * len(ids), marks)


def _rows(*ids: bytes, idle_ms: int = OLD_MS, mark: Mark = Mark.HELD) -> list[Row]:
    return [Row(entry, 10**12 - idle_ms, idle_ms, mark) for entry in ids]


def _free(
    batches: list[Batch], found: list[Row], waiting: tuple[bytes, ...] = (), most: int = 100
) -> list[bytes]:
    return [row.entry for row in lendable(batches, waiting, found, most)]


def test_what_is_behind_the_one_that_runs() -> None:
    assert _free([_batch(2, [A, B, C, D], 2)], _rows(A, B, C, D)) == [C, D]


def test_what_was_read_ahead_and_is_in_no_batch() -> None:
    assert _free([_batch(2, [A], 1)], _rows(A, B)) == [B]


def test_what_a_batch_before_has_finished_is_not_yet_acknowledged_and_stays() -> None:
    assert _free([_batch(1, [A, B], 3), _batch(2, [C, D], 1)], _rows(A, B, C, D)) == [D]


def test_what_a_batch_before_did_not_come_to_is_claimed_before_it_runs() -> None:
    """The mark behind the finished one is its end, not the start of the next."""
    assert _free([_batch(1, [A, B, C], 2), _batch(2, [B], 1)], _rows(B, C)) == [C]


def test_what_is_being_taken_into_hand() -> None:
    assert _free([_batch(1, [A, B], 0, Kind.CLAIM), _batch(2, [A], 1)], _rows(A, B)) == [B]


def test_all_of_a_call_runs_at_the_same_time() -> None:
    """What was gathered for another, and what a call before did not finish, may go."""
    open_ = replace(_batch(2, [A, B, C], 1, Kind.CALL), outcomes=(Outcome.OPEN, Outcome.DONE, Outcome.OPEN))
    assert _free([open_], _rows(A, B, C, D)) == [D]
    assert _free([open_, _batch(3, [D], 1)], _rows(A, B, C, D)) == [A, C]


def test_what_waits_for_its_retry_stays() -> None:
    assert _free([_batch(2, [A, B], 1)], _rows(A, B, C), waiting=(C,)) == [B]


def test_what_rests_may_go_and_suspects_may_not() -> None:
    found = _rows(A) + _rows(B, mark=Mark.RESTING) + _rows(C, mark=Mark.SUSPECT)
    assert _free([_batch(2, [A], 1)], found) == [B]


def test_what_was_touched_just_now_stays_for_the_moment() -> None:
    assert _free([_batch(2, [A, B], 1)], _rows(A) + _rows(B, idle_ms=3)) == []


def test_of_more_than_a_page_only_what_the_batch_names() -> None:
    """What is further back in a long list is claimed much later: it is not remembered for so long."""
    assert _free([_batch(2, [A, B], 1)], _rows(A, B, C), most=3) == [B]


def test_what_is_deferred_is_in_no_table_and_stays() -> None:
    """Whoever says that there may be such entries gets none but what the newest batch names."""
    assert _free([_batch(2, [B, C], 1)], _rows(A, B, C, D), most=0) == [C]


def test_a_reply_says_when_rows_were_touched() -> None:
    """In the order of ids, whoever owns them."""
    reply = [1000, A, 10, 0, C, 3, 0, B, 1, 1, D, 2**41, 2]
    assert rows(reply) == [
        Row(A, 990, 10, Mark.HELD), Row(B, 999, 1, Mark.RESTING), Row(C, 997, 3, Mark.HELD),
        Row(D, 1000 - 2**41, 2**41, Mark.SUSPECT),
    ]  # fmt: skip


def test_the_oldest_are_dealt_first_and_in_turn() -> None:
    a, b, c, d, e = _rows(A, B, C, D, E)
    assert deal([a, b, c, d, e], [7, 3], 100) == {7: [a, c, e], 3: [b, d]}
    assert deal([a], [7, 3], 100) == {7: [a]}
    assert deal([a, b, c], [7, 3], 2) == {7: [a], 3: [b]}


@given(st.integers(0, 500), st.integers(1, 9), st.integers(1, 500))
def test_a_deal_is_even_and_gives_each_row_once(count: int, slots: int, room: int) -> None:
    all_rows = _rows(*(b"%d-0" % n for n in range(count)))
    dealt = deal(all_rows, range(slots), room)
    given_away = sorted((row for part in dealt.values() for row in part), key=all_rows.index)
    assert given_away == all_rows[: min(count, room, SHARE_MAX * slots)]
    sizes = [len(dealt.get(slot, [])) for slot in range(slots)]
    assert max(sizes) - min(sizes) <= 1
    assert all(dealt.values())
