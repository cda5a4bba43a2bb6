"""The guard: which entries a breaker keeps from their handler, lets through, or lets be tried."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_shared import shared

from rsq.ipc.breakers import How, Shown, State, Switch
from rsq.ipc.cells import D
from rsq.ipc.slot import SLOT_SIZE, Slot
from rsq.streams.entry import Message
from rsq.worker.breaker import Limits
from rsq.worker.fuse import Fuse, WhileOpen
from rsq.worker.guard import DEFERRED_MAX, Act, Guard, Question, decide
from rsq.worker.verdict import BreakerOpen, NeverRan, Reject, Retry

MODES: tuple[WhileOpen, ...] = ("defer", "pause", "dead-letter")
OPEN, DUE, HALF = State(Shown.OPEN), State(Shown.OPEN, 0.0), State(Shown.HALF_OPEN, 0.0)


class Keeper:
    """What the keeper of a pool would do."""

    def __init__(self, slot: Slot) -> None:
        self.slot, self.woken = slot, 0

    def give(self) -> None:
        self.woken += 1

    def say(self, *states: State) -> None:
        self.slot.switches.set(self.slot.strain.registered, states)

    def grant(self) -> None:
        self.slot.switches.grant(self.slot.strain.question[0])


def made(*modes: WhileOpen) -> tuple[Guard, Keeper]:
    slot = Slot(shared(SLOT_SIZE))
    keeper = Keeper(slot)
    events = (b"mail", b"post")
    fuses = [Fuse(event, Limits(), mode, 1000) for event, mode in zip(events, modes, strict=False)]
    return Guard(fuses, slot, keeper), keeper  # type: ignore[arg-type]


def admitted(guard: Guard, entry: bytes, row: int = 0) -> bool | None:
    """Whether an entry may run; None if it is dead."""
    try:
        guard.admit(row, entry)
    except BreakerOpen as error:
        return None if error.dead else False
    return True


@given(st.sampled_from(Switch), st.sampled_from(Question), st.sampled_from(MODES), st.booleans())
def test_what_is_decided(switch: Switch, question: Question, mode: WhileOpen, waits: bool) -> None:
    act = decide(switch, question, mode, any_deferred=waits)
    if act in (Act.RELEASE, Act.ASK, Act.PROBE):
        assert waits, "there is nothing to run"
    if act is Act.PROBE:
        assert question is Question.GRANTED, "nobody has said that it may run"
    if act is Act.RELEASE:
        assert switch is Switch.CLOSED or (switch is Switch.OPEN and mode == "dead-letter")
    if act is Act.ASK:
        assert (switch, question) == (Switch.READY, Question.NONE)
    if act is Act.WITHDRAW:
        assert question in (Question.ASKED, Question.GRANTED)
    if question is Question.ASKED and switch is Switch.CLOSED:
        assert act is Act.WITHDRAW, "a question stays for ever"
    if switch is Switch.CLOSED and waits and question in (Question.NONE, Question.ELSEWHERE):
        assert act is Act.RELEASE, "entries wait for nothing"


def test_nothing_runs_until_the_keeper_has_spoken() -> None:
    guard, keeper = made("dead-letter", "pause")
    assert keeper.woken == 1
    assert (admitted(guard, b"1-0", 0), admitted(guard, b"1-0", 1)) == (False, False)
    assert not guard.may_read(1.0)
    keeper.say(State(), State())
    assert (admitted(guard, b"1-0", 0), admitted(guard, b"1-0", 1)) == (True, True)
    assert guard.may_read(1.0)


def test_deferred_entries_run_when_it_closes_in_their_order() -> None:
    guard, keeper = made("defer")
    keeper.say(OPEN)
    for n in range(5):
        guard.defer(0, b"%d-0" % n, n + 1)
    guard.defer(0, b"0-0", 1)
    assert (len(guard), guard.take(1.0, 3)) == (5, ([], False))
    keeper.say(State())
    assert guard.take(1.0, 3) == ([(b"0-0", 1), (b"1-0", 2), (b"2-0", 3)], False)
    assert guard.take(1.0, 3) == ([(b"3-0", 4), (b"4-0", 5)], False)
    assert (len(guard), guard.take(1.0, 3)) == (0, ([], False))


def test_one_is_tried_when_it_is_granted() -> None:
    guard, keeper = made("defer", "defer")
    keeper.say(DUE, State())
    guard.defer(0, b"1-0", 1)
    guard.defer(0, b"2-0", 1)
    assert guard.take(1.0, 9) == ([], False), "it was not granted yet"
    strain = keeper.slot.strain
    assert strain.question == (1, 0)
    keeper.grant()
    keeper.say(HALF, State())
    assert guard.take(1.0, 9) == ([(b"1-0", 1)], True)
    assert (admitted(guard, b"1-0"), admitted(guard, b"2-0")) == (True, False)
    guard.went_well([b"2-0"])  # another entry, begun before
    assert strain.answer[0] == 0
    guard.went_well([b"1-0"])
    assert strain.answer == (1, How.WELL)
    guard.over()
    assert strain.answer == (1, How.WELL), "said twice"
    assert not admitted(guard, b"1-0")


@pytest.mark.parametrize(
    ("error", "how", "count"),
    [(ValueError(), How.BADLY, 1), (Retry(), How.NOT_RUN, 0), (Reject(), How.NOT_RUN, 0)],
)
def test_what_counts(error: Exception, how: How, count: int) -> None:
    guard, keeper = made("defer")
    strain = keeper.slot.strain
    guard.failed(0, [b"9-0"], error)
    assert strain.failures(0) == count
    keeper.say(DUE)
    guard.defer(0, b"1-0", 1)
    guard.take(1.0, 9)
    keeper.grant()
    guard.take(1.0, 9)
    guard.failed(0, [b"1-0"], error)
    assert strain.answer == (1, how)
    assert strain.failures(0) == count, "a try is no failure of its own"


def test_a_handler_that_never_ran_has_failed() -> None:
    """An `async def` that some decorator hides returns a coroutine, and nothing else has happened."""
    guard, keeper = made("defer")
    keeper.say(State(Shown.CLOSED))

    async def hidden(_message: Message) -> None:
        raise AssertionError("it ran")

    run = guard.guarded(hidden, 0)
    with pytest.raises(NeverRan):
        run(Message([b"1-0", []], None))
    assert keeper.slot.strain.failures(0) == 1


def test_a_question_is_withdrawn_when_it_is_moot() -> None:
    for state in (State(), OPEN):
        guard, keeper = made("defer")
        keeper.say(DUE)
        guard.defer(0, b"1-0", 1)
        guard.take(1.0, 9)
        keeper.say(state)
        assert guard.take(1.0, 9) == ([], False)
        assert keeper.slot.strain.answer == (1, How.NOT_RUN)
        keeper.grant()
        assert guard.take(1.0, 9)[1] is False, "a grant that came too late"


def test_what_is_dead_lettered_leaves_one_to_be_tried() -> None:
    guard, keeper = made("dead-letter")
    keeper.say(OPEN)
    assert admitted(guard, b"1-0") is None
    keeper.say(DUE)
    assert admitted(guard, b"2-0") is False
    guard.defer(0, b"2-0", 1)
    assert admitted(guard, b"3-0") is None
    keeper.say(OPEN)
    assert guard.take(1.0, 9) == ([(b"2-0", 1)], False), "it would wait for ever"


def test_a_paused_pool_reads_only_to_have_one_to_try() -> None:
    guard, keeper = made("pause")
    seen = []
    for state in (State(), OPEN, DUE):
        keeper.say(state)
        seen.append((guard.may_read(1.0), guard.is_paused))
    assert seen == [(True, False), (False, True), (True, True)]
    guard.defer(0, b"1-0", 1)
    assert not guard.may_read(1.0)


def test_a_slot_that_is_full_reads_nothing() -> None:
    guard, keeper = made("defer")
    keeper.say(OPEN)
    n = 0
    while guard.may_read(1.0):
        guard.defer(0, b"%d-0" % n, 1)
        n += 1
    assert DEFERRED_MAX // 2 < n < DEFERRED_MAX
    assert keeper.slot.desk.view[D.DEFERRED] == n


@pytest.mark.parametrize("charged", [0, 1, None])
def test_a_predecessor_that_died_in_a_try(charged: int | None) -> None:
    """It has failed if the entry that is charged is of that event."""
    guard, keeper = made("defer", "defer")
    keeper.say(DUE, State())
    guard.defer(0, b"1-0", 1)
    guard.take(1.0, 9)
    keeper.grant()
    guard.take(1.0, 9)
    strain = keeper.slot.strain
    again: Any = keeper
    successor = Guard(
        [Fuse(b"post", Limits(), "defer", 1), Fuse(b"mail", Limits(), "defer", 1)], keeper.slot, again
    )
    successor.charged(None if charged is None else 1 - charged)  # its code has another order
    successor.recovered()
    assert strain.answer == (1, How.NOT_RUN if charged is None or charged == 1 else How.BADLY)
    assert [strain.failures(row) for row in (0, 1)] == [int(charged == 1), 0]
