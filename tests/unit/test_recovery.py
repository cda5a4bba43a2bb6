"""Recovery: whatever a predecessor left, each pending entry has one fate, and none is run too often."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from rsq.ipc.journal import Batch, Kind, Outcome
from rsq.ipc.ledger import INDEX_BITS
from rsq.streams.entry import parse_id
from rsq.worker.recovery import ACKED, Plan, culprit, current, from_table, number, plan, suspects, to_bury

OF_CALLS = (Outcome.OPEN, Outcome.SUSPECT)
DEAD = [outcome for outcome in Outcome if outcome.name.startswith("DEAD")]
A, B, C = b"1-0", b"2-0", b"3-0"


def _batch(
    ids: list[bytes],
    started: int = 0,
    outcomes: list[Outcome] | None = None,
    attempts: list[int] | None = None,
    *,
    batch: int = 1,
    kind: Kind = Kind.RUN,
) -> Batch:
    marks = [1.0] * started + [0.0] * (len(ids) + 1 - started)
    outcomes = (outcomes or []) + [Outcome.DONE] * (len(ids) - len(outcomes or []))
    return Batch(batch, kind, tuple(ids), tuple(attempts or [1] * len(ids)), tuple(outcomes), tuple(marks))


# The cases, one by one


def test_nothing_to_recover() -> None:
    assert plan([], {}, {}) == Plan()


def test_finished_entries_are_acknowledged_and_the_others_run_uncharged() -> None:
    """The last mark is the start of B: A is finished."""
    made = plan([_batch([A, B, C], started=2)], {A: 1, B: 1, C: 1}, {})
    assert made == Plan(ack=[A], run=[(B, 1), (C, 1)])


def test_what_redis_no_longer_has_pending_needs_nothing() -> None:
    assert plan([_batch([A, B], started=3)], {}, {}) == Plan()


def test_dead_entries_get_their_letter() -> None:
    batch = _batch([A, B], started=3, outcomes=[Outcome.DEAD_CRASH, Outcome.LOST], attempts=[3, 1])
    assert plan([batch], {A: 3, B: 1}, {}) == Plan(ack=[B], bury=[(A, 3, Outcome.DEAD_CRASH)])


def test_failed_entries_wait_with_the_number_of_their_next_attempt() -> None:
    """Redis was not told yet: its counter is put right."""
    batch = _batch([A], started=2, outcomes=[Outcome.WAITING])
    assert plan([batch], {A: 1}, {A: (2, 50.0)}) == Plan(wait={A: (2, 50.0)}, counters={A: 2})


def test_a_failed_entry_without_a_row_goes_on_at_once() -> None:
    batch = _batch([A], started=2, outcomes=[Outcome.WAITING])
    assert plan([batch], {A: 2}, {}) == Plan(run=[(A, 2)])


def test_what_could_not_be_dead_lettered_is_not_finished() -> None:
    batch = _batch([A], started=2, outcomes=[Outcome.HELD_BACK], attempts=[3])
    row = (to_bury(3, Outcome.DEAD_CRASH), 9.0)
    assert plan([batch], {A: 3}, {A: row}) == Plan(wait={A: row})
    assert plan([batch], {A: 3}, {}) == Plan(run=[(A, 3)])


def test_the_newer_batch_has_the_last_word() -> None:
    older = _batch([A], started=2, outcomes=[Outcome.WAITING], batch=1)
    newer = _batch([A], started=2, attempts=[2], batch=2)
    assert plan([older, newer], {A: 2}, {}) == Plan(ack=[A])


def test_a_claim_that_was_on_its_way_is_known_to_the_journal() -> None:
    """Half of the page was claimed when the process died: all of it goes on with the same attempt."""
    batch = _batch([A, B], attempts=[2, 2], kind=Kind.CLAIM)
    assert plan([batch], {A: 2, B: 1}, {}) == Plan(run=[(A, 2), (B, 2)], counters={B: 2})


def test_a_row_older_than_the_attempt_is_not_believed() -> None:
    batch = _batch([A], attempts=[4], kind=Kind.CLAIM)
    assert plan([batch], {A: 4}, {A: (2, 99.0)}) == Plan(run=[(A, 4)])
    assert current({A: (2, 99.0)}, A, 2) == (2, 99.0)
    assert current({A: (2, 99.0)}, A, 3) is None
    assert current({}, A, 1) is None


def test_the_culprit_is_the_entry_with_the_last_mark_while_user_code_ran() -> None:
    assert culprit([_batch([A, B], started=1)], running=True) == 0
    assert culprit([_batch([A, B], started=2)], running=True) == 1
    assert culprit([_batch([A, B], started=2)], running=False) is None
    assert culprit([_batch([A, B], started=0)], running=True) is None
    assert culprit([_batch([A, B], started=3)], running=True) is None, "both are finished"
    assert culprit([_batch([A], started=1, kind=Kind.CLAIM)], running=True) is None
    assert culprit([], running=True) is None


def _call(outcomes: list[Outcome], attempts: list[int] | None = None) -> Batch:
    return _batch([A, B, C][: len(outcomes)], 1, outcomes, attempts, kind=Kind.CALL)


def test_of_a_call_of_several_all_that_are_not_marked_are_suspects() -> None:
    """Nobody is charged before one of them has shown itself, alone."""
    batch = _call([Outcome.DONE, Outcome.OPEN, Outcome.OPEN], [1, 2, 1])
    assert (culprit([batch], running=True), suspects([batch], running=True)) == (None, [1, 2])
    assert suspects([batch], running=False) == []
    made = plan([batch], {A: 1, B: 2, C: 1}, {})
    assert made == Plan(ack=[A], run=[(B, 2), (C, 1)])
    told = _call([Outcome.DONE, Outcome.SUSPECT, Outcome.WAITING])
    assert plan([told], {A: 1, B: 1, C: 2}, {C: (2, 9.0)}) == Plan(ack=[A], run=[(B, 1)], wait={C: (2, 9.0)})


def test_of_a_call_of_one_that_one_is_the_culprit() -> None:
    assert culprit([_call([Outcome.OPEN])], running=True) == 0
    assert suspects([_call([Outcome.OPEN])], running=True) == []
    assert culprit([_call([Outcome.OPEN])], running=False) is None
    assert culprit([_call([Outcome.DONE])], running=True) is None, "it was marked before the process died"
    assert culprit([_call([Outcome.DONE, Outcome.OPEN])], running=True) is None
    assert suspects([_call([Outcome.DONE, Outcome.OPEN])], running=True) == [1], (
        "alone it has not shown itself"
    )


def test_what_rests_waits_to_be_taken_but_is_not_run_again_if_it_was_finished() -> None:
    """It may have been away: handed to another slot, and back."""
    batch = _batch([A, B], started=2)
    assert plan([batch], {A: 1, B: 1, C: 2}, {}, {A, B, C}) == Plan(ack=[A], resting={B, C})
    failed = _batch([A], started=2, outcomes=[Outcome.WAITING])
    assert plan([failed], {A: 1}, {A: (2, 50.0)}, {A}) == Plan(resting={A})


@given(st.integers(1, 2**31), st.sampled_from(DEAD))
def test_the_table_holds_an_attempt_and_perhaps_an_outcome(attempt: int, outcome: Outcome) -> None:
    assert from_table(attempt) == (attempt, None)
    assert from_table(to_bury(attempt, outcome)) == (attempt, outcome)
    assert number(to_bury(attempt, outcome)) == attempt


# Any state


@dataclass(frozen=True)
class Left:
    """What a predecessor left."""

    batches: list[Batch]
    pending: dict[bytes, int]
    waiting: dict[bytes, tuple[int, float]]

    def word(self, entry: bytes) -> tuple[Outcome | None, int] | None:
        """The journal's last word on an entry: how it ended, and in which attempt."""
        for batch in reversed(self.batches):
            if entry in batch.ids:
                at = batch.ids.index(entry)
                ended = batch.kind is Kind.RUN and batch.marks[at + 1] > 0
                ended = ended or (batch.kind is Kind.CALL and batch.outcomes[at] not in OF_CALLS)
                outcome = batch.outcomes[at] if ended else None
                return (None if outcome is Outcome.HELD_BACK else outcome), batch.attempts[at]
        return None

    def least(self, entry: bytes) -> int:
        """The attempt below which an entry must never be started again."""
        word = self.word(entry)
        if word is None:
            return self.pending[entry]
        outcome, attempt = word
        return attempt + (outcome is Outcome.WAITING)


IDS = [b"%d-%d" % (ms, seq) for ms in range(1, 6) for seq in range(2)]
ATTEMPTS = st.integers(1, 5)


@st.composite
def _batches(draw: st.DrawFn) -> list[Batch]:
    made = []
    for batch in range(1, draw(st.integers(0, 2)) + 1):
        ids = draw(st.lists(st.sampled_from(IDS), unique=True))
        kind = draw(st.sampled_from(Kind))
        possible = [one for one in Outcome if kind is Kind.CALL or one not in OF_CALLS]
        outcomes = draw(st.lists(st.sampled_from(possible), min_size=len(ids), max_size=len(ids)))
        attempts = draw(st.lists(ATTEMPTS, min_size=len(ids), max_size=len(ids)))
        started = draw(st.integers(0, len(ids) + 1 if ids else 0))
        made.append(_batch(ids, started, outcomes, attempts, batch=batch, kind=kind))
    return made


ROWS = st.one_of(ATTEMPTS, st.builds(to_bury, ATTEMPTS, st.sampled_from(DEAD)))
LEFT = st.builds(
    Left,
    _batches(),
    st.dictionaries(st.sampled_from(IDS), st.integers(0, 5)).map(
        lambda found: {entry: found[entry] for entry in sorted(found, key=parse_id)}
    ),
    st.dictionaries(st.sampled_from(IDS), st.tuples(ROWS, st.floats(0, 100))),
)


def _fates(made: Plan) -> list[bytes]:
    return [*made.ack, *(e for e, _, _ in made.bury), *made.wait, *(e for e, _ in made.run)]


@given(LEFT)
@settings(max_examples=300, deadline=None)
def test_every_pending_entry_has_exactly_one_fate(left: Left) -> None:
    made = plan(left.batches, left.pending, left.waiting)
    fates = _fates(made)
    assert sorted(fates) == sorted(left.pending)
    for part in (
        made.ack,
        [entry for entry, _, _ in made.bury],
        list(made.wait),
        [entry for entry, _ in made.run],
    ):
        assert part == sorted(part, key=parse_id), "in the order of the stream"


@given(LEFT)
@settings(max_examples=300, deadline=None)
def test_the_fate_is_what_the_journal_says(left: Left) -> None:
    """Finished is finished; dead is dead; everything else goes on, and nothing finished does."""
    made = plan(left.batches, left.pending, left.waiting)
    buried = {entry: (attempt, outcome) for entry, attempt, outcome in made.bury}
    for entry in left.pending:
        outcome, attempt = left.word(entry) or (None, 0)
        if outcome in ACKED:
            assert entry in made.ack
        elif outcome in DEAD:
            assert buried[entry] == (attempt, outcome)
        else:
            assert entry in made.wait or entry in dict(made.run)


@given(LEFT)
@settings(max_examples=300, deadline=None)
def test_attempts_never_decrease_and_redis_is_told_them(left: Left) -> None:
    """But for an entry that waits for its dead letter: that verdict stands, and its counter is let be."""
    made = plan(left.batches, left.pending, left.waiting)
    letters = {entry for entry, (value, _) in made.wait.items() if from_table(value)[1] is not None}
    assert {entry: made.wait[entry] for entry in letters} == {entry: left.waiting[entry] for entry in letters}
    again = {entry: number(value) for entry, (value, _) in made.wait.items() if entry not in letters}
    goes_on = dict(made.run) | again
    for entry, attempt in goes_on.items():
        assert attempt >= left.least(entry)
        assert made.counters.get(entry, left.pending[entry]) == attempt
    assert made.counters.keys() <= goes_on.keys()
    assert all(left.pending[entry] != counter for entry, counter in made.counters.items()), "for nothing"


@given(LEFT, st.data())
@settings(max_examples=300, deadline=None)
def test_a_death_in_the_middle_of_recovery_changes_nothing(left: Left, data: st.DataObject) -> None:
    """Whatever part of the plan has reached Redis, the next process makes the same plan for the rest."""
    made = plan(left.batches, left.pending, left.waiting)
    settled = [*made.ack, *(entry for entry, _, _ in made.bury)]
    gone = data.draw(st.sets(st.sampled_from(settled))) if settled else set()
    told = data.draw(st.sets(st.sampled_from(sorted(made.counters)))) if made.counters else set()
    pending = {e: made.counters[e] if e in told else n for e, n in left.pending.items() if e not in gone}
    again = plan(left.batches, pending, left.waiting)
    named = {entry for batch in left.batches for entry in batch.ids}
    for entry in pending:
        if entry in named or entry not in told:
            assert (entry in again.ack) == (entry in made.ack)
            assert dict(again.run).get(entry) == dict(made.run).get(entry)
            assert again.wait.get(entry) == made.wait.get(entry)
    assert {entry for entry, _, _ in again.bury} == {entry for entry, _, _ in made.bury} - gone


def test_behind_an_entry_that_ran_on_nothing_was_started() -> None:
    """The mark says that A has ended; B may run elsewhere by now, and its own process never began it."""
    batches = [_batch([A, B, C], started=2, batch=5)]
    assert culprit(batches, running=True) == 1
    assert culprit(batches, running=True, runs_on=5 << INDEX_BITS) is None
    assert culprit(batches, running=True, runs_on=5 << INDEX_BITS | 1) == 1, "it is B that runs on"
    assert culprit(batches, running=True, runs_on=4 << INDEX_BITS) == 1, "that was another batch"
    assert culprit([_batch([A, B], started=1, batch=5)], running=True, runs_on=5 << INDEX_BITS) == 0
