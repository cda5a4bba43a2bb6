"""Claims: what an answer of the server makes of an entry."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rsq.ipc.loans import Loans
from rsq.streams.group import Claimed, Group
from rsq.worker.claims import Claims

A, B, C, E = b"1-0", b"2-0", b"3-0", b"4-0"


class Parts:
    """All that a claim passes through; answers as told, and notes what happens in which order."""

    def __init__(
        self,
        results: list[Any],
        *,
        unchanged: bool = True,
        lane: bool = True,
        lent: tuple[bytes, ...] = (),
        rested: tuple[bytes, ...] = (),
        most: int = 3,
    ) -> None:
        self.notes: list[Any] = []
        self.lent, self.rested, self.most = lent, rested, most
        self.unchanged, self.lane = unchanged, lane
        self.kept: dict[bytes, Any] = {}
        note = self.notes.append
        self.session = SimpleNamespace(
            must=lambda _: results,
            in_parts=lambda *_: results,
            unchanged=unchanged,
            send=lambda: None,
            settle=lambda: note("settled"),
            regrouped=False,
        )
        self.shelf = SimpleNamespace(forget=lambda ids: note(("forget", ids)))
        self.books = SimpleNamespace(
            lose=lambda lost: note(("lose", lost)),
            note_claim=lambda ids, attempts: note(("journal", ids, attempts)),
            finish=lambda ids, attempts, outcome, letters: note(("finish", ids, attempts, outcome, letters)),
        )
        self.runner = SimpleNamespace(
            run=lambda found, attempts, *, alone: note(("alone" if alone else "run", found, attempts))
        )
        self.siblings = SimpleNamespace(lock_lane=self._lock, unlock_lane=lambda: note("unlock"))

    def _lock(self) -> bool:
        self.notes.append("lock")
        return self.lane

    def claims(self) -> Claims:
        ways: Any = SimpleNamespace(retries=lambda *_: SimpleNamespace(max_attempts=self.most))
        loans = Loans(memoryview(bytearray(Loans.SIZE)))
        loans.add(self.lent)
        loans.add(self.rested, rest=True)
        journal = SimpleNamespace(batches=list)
        slot: Any = SimpleNamespace(desk=SimpleNamespace(view=[0] * 64), loans=loans, journal=journal)
        parts = (self.siblings, Group("s", "g", "c"), self.session, self.shelf, self.books, self.runner)
        return Claims(slot, *cast("tuple[Any, Any, Any, Any, Any, Any]", parts), self.kept, ways)


def test_each_answer_has_its_consequence() -> None:
    parts = Parts([[A, [b"data", b"1"]], Claimed.NOT_OURS, Claimed.DELETED, Claimed.GONE])
    parts.claims().run([(A, 1), (B, 2), (C, 3), (E, 2)])
    assert parts.notes == [
        ("forget", [B]),
        ("lose", [(C, 3), (E, 2)]),
        ("run", [[A, [b"data", b"1"]]], [1]),
    ]


def test_what_is_gone_is_not_called_lost_if_others_may_have_finished_it() -> None:
    parts = Parts([Claimed.GONE], unchanged=False)
    parts.claims().run([(A, 1)])
    assert parts.notes == [("forget", [A])]


def test_what_is_deleted_runs_all_the_same_if_its_payload_came_before() -> None:
    parts = Parts([Claimed.DELETED, Claimed.NOT_OURS])
    parts.kept |= {A: [A, [b"data", b"1"]], B: [B, [b"data", b"2"]], C: [C, [b"data", b"3"]]}
    parts.claims().run([(A, 1), (B, 1)])
    assert parts.notes == [("forget", [B]), ("run", [[A, [b"data", b"1"]]], [1])]
    assert parts.kept.keys() == {C}


def test_what_was_lent_and_is_gone_was_finished_by_who_got_it() -> None:
    parts = Parts([Claimed.GONE, Claimed.GONE], lent=(A,))
    parts.claims().run([(A, 1), (B, 1)])
    assert parts.notes == [("forget", [A]), ("lose", [(B, 1)])]


def test_what_somebody_took_runs_if_it_is_in_hand_and_is_lost_if_not() -> None:
    parts = Parts([Claimed.TAKEN, Claimed.TAKEN, Claimed.TAKEN, Claimed.TAKEN], lent=(C,), rested=(E,))
    parts.kept |= {A: [A, [b"data", b"1"]]}
    parts.claims().run([(A, 1), (B, 2), (C, 1), (E, 1)])
    assert parts.notes == [
        ("forget", [C, E]),  # others of ours may have finished it
        ("lose", [(B, 2)]),
        ("run", [[A, [b"data", b"1"]]], [1]),
    ]


def test_with_its_consumer_a_slot_loses_what_it_let_rest_too() -> None:
    parts = Parts([Claimed.ALL_TAKEN, Claimed.ALL_TAKEN, Claimed.ALL_TAKEN], lent=(C,), rested=(A, B))
    parts.kept |= {A: [A, [b"data", b"1"]]}
    parts.claims().run([(A, 1), (B, 1), (C, 1)])
    assert parts.notes == [("forget", [C]), ("lose", [(B, 1)]), ("run", [[A, [b"data", b"1"]]], [1])]


def test_a_group_that_is_new_may_deliver_again_what_was_taken() -> None:
    parts = Parts([Claimed.TAKEN, Claimed.GONE])
    parts.session.regrouped = True
    parts.claims().run([(A, 1), (B, 1)])
    assert parts.notes == [("forget", [A]), ("lose", [(B, 1)])]


def test_a_suspect_is_journalled_run_and_settled_before_anything_else() -> None:
    suspects = deque([(A, 2), (B, 2)])
    parts = Parts([[A, [b"data", b"1"]]])
    assert parts.claims().run_suspect(suspects)
    assert parts.notes == [
        ("journal", [A], [2]),
        ("forget", []),
        ("alone", [[A, [b"data", b"1"]]], [2]),
        "settled",
    ]
    assert list(suspects) == [(B, 2)]


def test_the_last_attempt_of_a_suspect_has_the_pool_for_itself() -> None:
    suspects = deque([(A, 3)])
    parts = Parts([[A, [b"data", b"1"]]])
    assert parts.claims().run_suspect(suspects)
    assert (parts.notes[0], parts.notes[-1]) == ("lock", "unlock")
    waiting = Parts([], lane=False)
    suspects = deque([(A, 3)])
    assert not waiting.claims().run_suspect(suspects)
    assert waiting.notes == ["lock"]
    assert list(suspects) == [(A, 3)]


def test_the_lane_is_free_again_after_a_line_that_broke() -> None:
    parts = Parts([])

    def broken(_: bytes) -> Any:
        raise OSError("cut")

    parts.session.must = broken
    with pytest.raises(OSError, match="cut"):
        parts.claims().run_suspect(deque([(A, 3)]))
    assert parts.notes[-1] == "unlock"


def test_a_suspect_whose_event_has_no_attempt_left_is_buried_and_not_run() -> None:
    """The leader knows only the most that any event has."""
    parts = Parts([[A, [b"data", b"1"]]], most=1)
    assert parts.claims().run_suspect(deque([(A, 2)]))
    journal, finish, settled = parts.notes
    assert (journal, settled) == (("journal", [A], [2]), "settled")
    assert finish[:3] == ("finish", [A], [1])
    letter = finish[4][0]
    assert (letter.entry, letter.attempt, letter.reason) == (A, 1, "host lost")
