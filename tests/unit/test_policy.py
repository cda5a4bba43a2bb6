"""The policy: what the master does, told as a conversation. No process, no clock."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsq.ipc.cells import Outside
from rsq.ipc.exitcodes import CONFIG, EXITED, NEVER_BOOTED, OK, RECYCLED, Cause, Death
from rsq.supervisor.happenings import BOOT_TRIES, RECOVER_PAUSE_S
from rsq.supervisor.phases import DRAIN_S
from rsq.supervisor.policy import FREEZE_S, TICK_S, begin, next_deadline, step
from rsq.supervisor.states import (
    Action,
    Drain,
    Event,
    Exited,
    Fork,
    Freeze,
    Halted,
    Kill,
    KillStranger,
    Leave,
    Phase,
    Record,
    Reexec,
    Refused,
    ReopenLogs,
    Resized,
    Rules,
    Say,
    Sight,
    Signalled,
    Stage,
    State,
    Tell,
    TellKept,
    Thaw,
    Tried,
    Try,
    Unforkable,
    Wake,
)

TERM, INT, QUIT, HUP = (Signalled(f"SIG{name}") for name in ("TERM", "INT", "QUIT", "HUP"))
DRAIN, PRESS = Signalled("DRAIN"), Signalled("PRESS")  # words of a root
TTIN, TTOU, USR1 = (Signalled(f"SIG{name}") for name in ("TTIN", "TTOU", "USR1"))
GOOD = EXITED + OK
SEGV = int(signal.SIGSEGV)
KILLED = int(signal.SIGKILL)


def booted(slot: int) -> Record:
    """What the master writes down when a slot has booted: nothing is known of its next death yet."""
    return Record(slot, Death(Cause.UNKNOWN), count=False)


def ended(slot: int, cause: Cause, detail: int = GOOD) -> Record:
    return Record(slot, Death(cause, detail))


class Talk:
    """A pool's policy, and what the shell would tell it."""

    def __init__(
        self, workers: int = 2, *, found: Sequence[int] | None = None, dirty: Sequence[int] = (), **rules: Any
    ) -> None:
        self.rules = Rules(workers=workers, **rules)
        self.state: State = begin(self.rules, found, dirty)
        self.now = 100.0
        self.sights: dict[int, Sight] = {}
        self.said: list[str] = []
        self.jitter = 0.5
        self.trust_s = math.inf

    def sees(self, slot: int, **values: Any) -> Talk:
        """Change what is to be seen of a slot from now on."""
        self.sights[slot] = replace(self.sights.get(slot, Sight()), **values)
        return self

    def hears(self, *events: Event, after: float = 0.01) -> list[Action]:
        """Take a step and return what is to be done, without words for people."""
        self.now += after
        self.state, actions = step(
            self.state, events, self.sights, self.now, self.rules, lambda: self.jitter, self.trust_s
        )
        for event in events:
            if isinstance(event, Exited):
                self.sees(event.slot, booted=False)
        self.said += [action.words for action in actions if isinstance(action, Say)]
        quiet = (Say, Resized, Tell) if self.state.stage is Stage.STARTING else (Say, Resized)
        return [
            action
            for action in actions
            if not isinstance(action, quiet) and not (isinstance(action, Tell) and action.what == "status")
        ]

    def boots(self, *slots: int) -> list[Action]:
        for slot in slots:
            self.sees(slot, booted=True)
        return self.hears()

    def runs(self, slot: int, place: int = 7) -> Talk:
        """Let user code run in a slot, since now."""
        return self.sees(slot, running=True, place=place, since=self.now, entry=f"{place}-0")

    def phase(self, slot: int) -> Phase:
        return self.state.seats[slot].phase

    @property
    def deadline(self) -> float:
        """How long the master would sleep now."""
        return next_deadline(self.state, self.rules, self.now) - self.now


def running(workers: int = 2, **rules: Any) -> Talk:
    """A pool that has booted."""
    talk = Talk(workers, **rules)
    talk.hears()
    talk.boots(*range(workers))
    assert talk.state.stage is Stage.RUNNING
    return talk


# Start


def test_start() -> None:
    """Every slot gets a process; the pool is ready when the last one has booted, not before."""
    talk = Talk(2)
    assert talk.hears() == [Fork(0, first=True), Fork(1, first=True)]
    assert talk.boots(0) == [booted(0)]
    assert talk.state.stage is Stage.STARTING
    assert talk.boots(1) == [booted(1), Tell("ready")]
    assert talk.hears() == []
    assert talk.deadline == TICK_S


def test_only_processes_before_the_first_boot_take_a_refusal_for_a_wrong_configuration() -> None:
    talk = Talk(2)
    talk.hears()
    talk.boots(0)
    assert talk.hears(Exited(1, SEGV)) == [ended(1, Cause.CRASH, SEGV), Fork(1)]


def test_a_slot_with_a_worker_of_a_former_master_waits() -> None:
    """It is said once, looked at every tick, and forked when the worker has gone."""
    talk = Talk(2).sees(1, holder=4242)
    assert talk.hears() == [Fork(0, first=True)]
    assert talk.boots(0) == [booted(0)]
    talk.said.clear()
    assert talk.hears(after=TICK_S) == []
    assert talk.said == []
    assert talk.state.stage is Stage.STARTING
    talk.sees(1, holder=None)
    assert talk.hears() == [Fork(1)]
    assert talk.boots(1) == [booted(1), Tell("ready")]


def test_slots_beyond_the_wanted_ones_are_only_put_in_order() -> None:
    """Memory of an earlier, larger pool tells of entries in hand: a process recovers them and goes."""
    talk = Talk(1, dirty=[5]).sees(5, held=True)
    assert talk.hears() == [Fork(0, first=True), Fork(5, retire=True, first=True)]
    assert talk.boots(0, 5) == [booted(0), booted(5), Tell("ready")]
    talk.sees(5, held=False)
    assert talk.hears(Exited(5, GOOD)) == [ended(5, Cause.CLEAN), Wake(0)]
    assert talk.phase(5) is Phase.CLOSED


def test_a_slot_may_be_put_in_order_faster_than_the_master_looks() -> None:
    talk = Talk(1, dirty=[5]).sees(5, held=True)
    talk.hears()
    talk.boots(0)
    talk.sees(5, held=False)
    assert talk.hears(Exited(5, GOOD)) == [ended(5, Cause.CLEAN), Wake(0)]
    assert "died" not in " ".join(talk.said)


def test_exit_code_78_before_anything_booted_ends_the_pool() -> None:
    talk = Talk(2)
    talk.hears()
    wrong = talk.hears(Exited(0, EXITED + CONFIG))
    assert wrong == [
        ended(0, Cause.ERROR, EXITED + CONFIG),
        Tell("stopping"),
        Drain(1),
        Kill(1, Cause.SHUTDOWN),
    ]
    assert talk.hears(Exited(1, KILLED)) == [ended(1, Cause.SHUTDOWN, KILLED), Leave(CONFIG)]


def test_exit_code_78_after_a_boot_is_a_death_like_others() -> None:
    talk = running()
    death = ended(1, Cause.ERROR, EXITED + CONFIG)
    assert talk.hears(Exited(1, EXITED + CONFIG)) == [death, Fork(1)]


def test_a_pool_that_never_boots_gives_up() -> None:
    """Each slot has its tries, with pauses between them; then the exit code tells that it was no crash."""
    talk = Talk(2)
    talk.hears()
    tries = 0
    while True:
        actions = talk.hears(Exited(0, EXITED + 70), Exited(1, EXITED + 70), after=1.0)
        tries += 1
        if Leave(NEVER_BOOTED) in actions:
            break
        assert tries < BOOT_TRIES
        talk.hears(after=1.0)
    assert tries == BOOT_TRIES
    assert f"failed {BOOT_TRIES} times" in talk.said[-1]


def test_a_closed_slot_is_not_asked_whether_it_ever_booted() -> None:
    """TTOU of a slot that does not boot leaves a pool that still gives up."""
    talk = Talk(2)
    talk.hears()
    talk.hears(Exited(1, EXITED + 70), TTOU)
    actions: list[Action] = []
    for _ in range(BOOT_TRIES):
        actions = talk.hears(Exited(0, EXITED + 70), after=1.0)
        talk.hears(after=1.0)
    assert Leave(NEVER_BOOTED) in actions


def test_a_slot_that_does_not_boot_in_a_pool_that_works_is_tried_for_ever() -> None:
    talk = running()
    talk.hears(Exited(1, SEGV))
    for _ in range(50):
        assert not any(isinstance(action, Leave) for action in talk.hears(Exited(1, EXITED + 70), after=40.0))
        assert talk.hears(after=40.0) == [Fork(1)]


def test_a_process_that_ends_well_without_ever_booting_is_not_replaced_in_a_hot_loop() -> None:
    talk = running()
    talk.hears(Exited(1, SEGV))
    assert talk.hears(Exited(1, GOOD)) == [ended(1, Cause.CLEAN)]
    assert talk.hears(after=0.2) == []
    assert talk.hears(after=0.1) == [Fork(1)]


def test_a_slot_that_cannot_be_given_a_process_is_tried_again_later() -> None:
    talk = Talk(1)
    talk.hears()
    assert talk.hears(Unforkable(0, "no room")) == []
    assert "no room" in talk.said[-1]
    assert talk.hears(after=0.5) == []
    assert talk.hears(after=0.6) == [Fork(0, first=True)]


# Crashes


def test_a_crash_is_replaced_at_once() -> None:
    talk = running().runs(0)
    assert talk.hears(Exited(0, SEGV)) == [ended(0, Cause.CRASH, SEGV), Fork(0)]
    assert "SIGSEGV while handling entry 7-0" in talk.said[-1]


@pytest.mark.parametrize("detail", [GOOD, EXITED + 3, int(signal.SIGTERM)])
def test_whatever_ends_a_process_while_user_code_runs_is_a_crash(detail: int) -> None:
    """`os._exit(0)` in a handler is no clean end."""
    talk = running().runs(0)
    assert talk.hears(Exited(0, detail))[0] == ended(0, Cause.CRASH, detail)


def test_an_exit_of_our_own_code_outside_of_a_handler_charges_nobody() -> None:
    talk = running()
    assert talk.hears(Exited(0, EXITED + 70))[0] == ended(0, Cause.ERROR, EXITED + 70)


def test_a_worker_that_somebody_else_told_to_drain_is_replaced() -> None:
    talk = running()
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.CLEAN), Fork(0)]


def test_crashes_without_any_progress_are_replaced_ever_more_slowly() -> None:
    """A crash after some finished entry starts from the beginning."""
    talk = running(1)
    assert Fork(0) in talk.hears(Exited(0, SEGV))
    pauses = []
    for _ in range(10):
        talk.boots(0)
        talk.hears(Exited(0, SEGV))
        before = talk.now
        while talk.hears(after=max(0.01, talk.deadline)) != [Fork(0)]:
            assert talk.now < before + 60
        pauses.append(talk.now - before)
    assert [round(pause, 1) for pause in pauses] == [0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    talk.boots(0)
    talk.sees(0, finished=1)
    assert Fork(0) in talk.hears(Exited(0, SEGV))


def test_a_process_that_dies_before_it_recovers_leaves_the_reason_of_its_predecessor() -> None:
    """It has not charged the culprit yet: what killed that one must stay on record."""
    talk = running(1).runs(0)
    talk.hears(Exited(0, SEGV))
    (killed,) = [a for a in talk.hears(Exited(0, KILLED)) if isinstance(a, Record)]
    assert killed == Record(0, Death(Cause.CRASH, KILLED), explain=False)


def test_a_process_that_is_stopped_before_it_recovers_leaves_the_reason_of_its_predecessor() -> None:
    """The same when the pool stops: neither a clean end nor our kill explains the older death."""
    talk = running(1, drain_s=5.0).runs(0)
    talk.hears(Exited(0, SEGV))
    clean = replace(talk.state)
    assert talk.hears(TERM) == [Tell("stopping"), Drain(0)]
    assert talk.hears(after=5.0) == [Kill(0, Cause.SHUTDOWN, explain=False)]
    assert talk.hears(Exited(0, KILLED))[0] == Record(0, Death(Cause.SHUTDOWN, KILLED), explain=False)
    talk.state = clean
    assert talk.hears(TERM, Exited(0, GOOD))[-2:] == [
        Record(0, Death(Cause.CLEAN, GOOD), explain=False),
        Leave(OK),
    ]


def test_the_predecessors_entry_is_not_timed_while_its_slot_boots() -> None:
    """Neither before nor after the pool is told to stop."""
    talk = running(1, timeout_s=2.0).runs(0)
    talk.hears(Exited(0, SEGV))
    for _ in range(5):
        assert talk.hears(after=1.0) == []
    talk.hears(TERM)
    for _ in range(5):
        assert talk.hears(after=1.0) == []


def test_after_recovery_an_unseen_death_has_no_older_reason() -> None:
    talk = running(1).runs(0)
    talk.hears(Exited(0, SEGV))
    talk.sees(0, running=False)
    assert talk.boots(0) == [booted(0)]


# Time limits


def frozen(talk: Talk) -> Talk:
    """Let the handler in slot 0 run until its process is frozen."""
    for _ in range(round(talk.rules.timeout_s) - 1):
        assert talk.hears(after=1.0) == []
    assert talk.hears(after=1.0) == [Freeze(0)]
    return talk


def test_a_handler_that_runs_too_long_is_frozen_looked_at_and_killed() -> None:
    talk = frozen(running(timeout_s=3.0).runs(0))
    assert talk.hears(Halted(0)) == [Kill(0, Cause.TIMEOUT, place=7)]
    assert talk.hears(after=1.0) == []
    assert talk.hears(Exited(0, KILLED)) == [ended(0, Cause.TIMEOUT, KILLED), Fork(0)]
    talk.boots(0)
    assert talk.runs(0, place=8).hears(Exited(0, KILLED))[0] == ended(0, Cause.CRASH, KILLED)


def test_a_frozen_process_that_dies_leaves_a_successor_that_is_not_frozen() -> None:
    talk = frozen(running(timeout_s=3.0).runs(0))
    assert talk.hears(Exited(0, SEGV)) == [ended(0, Cause.CRASH, SEGV), Fork(0)]
    talk.sees(0, running=False)
    talk.boots(0)
    frozen(talk.runs(0, place=8))


def test_a_handler_that_finished_in_the_last_moment_goes_on() -> None:
    """Frozen in the next entry, or in none: the limit was not for that."""
    talk = frozen(running(timeout_s=3.0).runs(0))
    talk.runs(0, place=8)
    assert talk.hears(Halted(0)) == [Thaw(0)]
    frozen(talk)
    talk.sees(0, running=False)
    assert talk.hears(Halted(0)) == [Thaw(0)]


def test_a_process_that_is_never_seen_to_stop_is_judged_all_the_same() -> None:
    talk = frozen(running(timeout_s=3.0).runs(0))
    assert talk.deadline <= FREEZE_S
    assert talk.hears(after=FREEZE_S) == [Kill(0, Cause.TIMEOUT, place=7)]
    talk = frozen(running(timeout_s=3.0).runs(0))
    talk.runs(0, place=8)
    assert talk.hears(after=FREEZE_S) == [Thaw(0)]
    talk = frozen(running(timeout_s=3.0).runs(0))
    talk.sees(0, running=False)
    assert talk.hears(after=FREEZE_S) == [Thaw(0)]


def test_each_entry_has_the_whole_limit() -> None:
    talk = running(timeout_s=3.0)
    for place in range(1, 20):
        talk.runs(0, place=place)
        for _ in range(2):
            assert talk.hears(after=1.0) == []


def test_the_master_wakes_when_the_limit_is_reached_not_later() -> None:
    talk = running(timeout_s=0.3).runs(0)
    talk.hears(after=0.1)
    assert talk.deadline == pytest.approx(0.2)
    assert talk.hears(after=0.21) == [Freeze(0)]


@pytest.mark.parametrize("timeout_s", [0.5, 1.0, 3.0])
def test_what_the_master_slept_through_does_not_count(timeout_s: float) -> None:
    """Whoever stopped the master, or the machine, may have stopped the handler too."""
    talk = running(timeout_s=timeout_s).runs(0)
    talk.hears(after=0.1)
    assert talk.hears(after=100.0) == []
    for _ in range(4):
        assert talk.hears(after=(timeout_s - 0.2) / 4) == []
    assert talk.hears(after=0.2) == [Freeze(0)]


def test_what_the_master_slept_through_does_not_count_for_a_handler_it_had_not_seen() -> None:
    talk = running(timeout_s=1.0).runs(0)
    assert talk.hears(after=100.0) == []
    assert talk.hears(after=0.9) == []
    assert talk.hears(after=0.2) == [Freeze(0)]


def test_somebody_elses_stop_is_none_of_ours() -> None:
    assert running(timeout_s=3.0).runs(0).hears(Halted(0)) == []


def test_without_a_limit_nobody_is_timed() -> None:
    talk = running().runs(0)
    for _ in range(100):
        assert talk.hears(after=1.0) == []


def test_an_entry_may_have_a_limit_of_its_own() -> None:
    """Shorter than the pool's, longer, or none at all."""
    talk = running(1, timeout_s=3.0).runs(0).sees(0, limit_s=1.5)
    assert talk.hears(after=1.0) == []
    assert talk.deadline == pytest.approx(0.5)
    assert talk.hears(after=0.6) == [Freeze(0)]
    assert talk.hears(Halted(0)) == [Kill(0, Cause.TIMEOUT, place=7)]
    assert talk.said[-1].endswith("ran longer than 1.5 s: killed")
    talk = running(1, timeout_s=3.0).runs(0).sees(0, limit_s=5.0)
    for _ in range(4):
        assert talk.hears(after=1.0) == []
    assert talk.hears(after=1.0) == [Freeze(0)]
    talk = running(1, timeout_s=3.0).runs(0).sees(0, limit_s=0.0)
    for _ in range(100):
        assert talk.hears(after=1.0) == []


def test_the_next_entry_has_the_pools_limit_again() -> None:
    talk = running(1, timeout_s=3.0).runs(0).sees(0, limit_s=60.0)
    for _ in range(10):
        assert talk.hears(after=1.0) == []
    frozen(talk.runs(0, place=8).sees(0, limit_s=None))


def test_a_pool_without_a_limit_keeps_those_of_entries() -> None:
    talk = running(1).runs(0).sees(0, limit_s=1.0)
    assert talk.hears(after=1.0) == [Freeze(0)]
    talk = Talk(1).sees(0, holder=4242, limit_s=1.0).runs(0)
    assert talk.hears(after=0.5) == []
    assert talk.hears(after=1.0) == [KillStranger(0, 4242, 7)]


def test_the_limit_holds_for_a_worker_of_a_former_master_too() -> None:
    talk = Talk(1, timeout_s=3.0).sees(0, holder=4242).runs(0)
    for _ in range(3):
        assert talk.hears(after=1.0) == []
    assert talk.hears(after=1.0) == [KillStranger(0, 4242, 7)]


def test_the_limit_holds_while_the_pool_stops() -> None:
    """And what hung is charged, unlike what is only cut off."""
    talk = running(1, timeout_s=2.0, drain_s=100.0).runs(0)
    assert talk.hears(TERM) == [Tell("stopping"), Drain(0)]
    assert talk.hears(after=1.0) == []
    assert talk.hears(after=1.0) == [Freeze(0)]
    assert talk.hears(Halted(0)) == [Kill(0, Cause.TIMEOUT, place=7)]
    assert talk.hears(Exited(0, KILLED)) == [ended(0, Cause.TIMEOUT, KILLED), Leave(OK)]


# Stop


@pytest.mark.parametrize("signal_", [TERM, INT])
def test_term_drains(signal_: Signalled) -> None:
    talk = running()
    assert talk.hears(signal_) == [Tell("stopping"), Drain(0), Drain(1)]
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.CLEAN)]
    assert talk.hears(Exited(1, GOOD)) == [ended(1, Cause.CLEAN), Leave(OK)]


def test_a_handler_that_outlives_the_drain_is_cut_off_and_not_charged() -> None:
    talk = running(2, drain_s=5.0).runs(1)
    talk.hears(TERM, Exited(0, GOOD))
    assert talk.deadline <= 1.0
    assert talk.hears(after=4.9) == []
    assert talk.deadline == pytest.approx(0.1)
    assert talk.hears(after=0.1) == [Kill(1, Cause.SHUTDOWN)]
    assert "entry 7-0 is cut off" in talk.said[-1]
    assert talk.hears() == []
    assert talk.hears(Exited(1, KILLED)) == [ended(1, Cause.SHUTDOWN, KILLED), Leave(OK)]


def test_a_worker_that_has_drained_when_it_should_be_killed_has_drained() -> None:
    talk = running(1, drain_s=5.0)
    talk.hears(TERM)
    talk.hears(after=5.0)
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.CLEAN), Leave(OK)]


@pytest.mark.parametrize("first", ["root", "signal"])
def test_a_drain_that_comes_on_two_ways_is_one(first: str) -> None:
    """From the root, and by a signal that went to every process; what comes after that hurries."""
    talk = running(1, drain_s=100.0).runs(0)
    ways = [DRAIN, TERM] if first == "root" else [TERM, DRAIN]
    assert talk.hears(ways[0]) == [Tell("stopping"), Drain(0)]
    assert talk.hears(ways[1]) == []
    assert talk.hears(DRAIN) == []
    assert Kill(0, Cause.SHUTDOWN) in talk.hears(TERM)


def test_the_root_may_end_the_patience() -> None:
    talk = running(1, drain_s=100.0).runs(0)
    assert talk.hears(DRAIN) == [Tell("stopping"), Drain(0)]
    assert Kill(0, Cause.SHUTDOWN) in talk.hears(PRESS)


def test_a_second_term_hurries() -> None:
    talk = running(1)
    talk.hears(TERM)
    assert talk.hears(TERM) == [Kill(0, Cause.SHUTDOWN)]


def test_quit_is_at_once() -> None:
    talk = running(2)
    kills = [Kill(0, Cause.SHUTDOWN), Kill(1, Cause.SHUTDOWN)]
    assert talk.hears(QUIT) == [Tell("stopping"), Drain(0), Drain(1), *kills]
    talk = running(1)
    talk.hears(TERM)
    assert talk.hears(QUIT) == [Drain(0), Kill(0, Cause.SHUTDOWN)]


def test_the_first_reason_to_stop_gives_the_exit_code() -> None:
    talk = Talk(2)
    talk.hears()
    talk.hears(Exited(0, EXITED + CONFIG), QUIT)
    assert talk.hears(Exited(1, KILLED))[-1] == Leave(CONFIG)


def test_a_worker_that_dies_while_the_pool_stops_is_not_replaced() -> None:
    talk = running(2).runs(0)
    talk.hears(TERM)
    assert talk.hears(Exited(0, SEGV)) == [ended(0, Cause.CRASH, SEGV)]
    assert talk.hears(Exited(1, GOOD))[-1] == Leave(OK)


def test_what_a_process_leaves_while_the_pool_stops_is_recovered_before_it_ends() -> None:
    """By one that only recovers and is not told to drain; not counted into the time that handlers have."""
    talk = running(2, drain_s=5.0).runs(0)
    talk.sees(0, held=True).hears(TERM, Exited(1, GOOD))
    assert talk.hears(after=5.0) == [Kill(0, Cause.SHUTDOWN)]
    assert talk.hears(Exited(0, KILLED)) == [ended(0, Cause.SHUTDOWN, KILLED), Fork(0, retire=True)]
    assert talk.deadline == TICK_S, "it does not wait for a time that is over"
    assert talk.hears(TERM) == []
    talk.sees(0, running=False)
    assert talk.boots(0) == [booted(0)]
    talk.sees(0, held=False)
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.CLEAN), Leave(OK)]


def test_one_that_finds_no_server_is_not_repeated() -> None:
    """It has tried for as long as it may: what the memory keeps is told."""
    talk = running(1).sees(0, held=True)
    talk.hears(TERM)
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.CLEAN), Fork(0, retire=True)]
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.CLEAN), TellKept(0), Leave(OK)]


def test_one_that_dies_is_repeated_and_one_that_hangs_is_killed() -> None:
    talk = running(1, recover_s=10.0).sees(0, held=True)
    talk.hears(TERM)
    assert Fork(0, retire=True) in talk.hears(Exited(0, SEGV))
    assert talk.hears(Exited(0, KILLED)) == [ended(0, Cause.CRASH, KILLED)]
    assert talk.deadline == pytest.approx(RECOVER_PAUSE_S)
    assert talk.hears(after=RECOVER_PAUSE_S) == [Fork(0, retire=True)]
    assert talk.hears(after=10.0) == [Kill(0, Cause.SHUTDOWN)]
    assert talk.hears(Exited(0, KILLED)) == [ended(0, Cause.SHUTDOWN, KILLED), TellKept(0), Leave(OK)]


def test_a_process_that_recovers_a_closed_slot_goes_on_when_the_pool_stops() -> None:
    talk = Talk(1, dirty=[5]).sees(5, held=True)
    talk.hears()
    talk.boots(0)
    assert talk.hears(TERM) == [Tell("stopping"), Drain(0)]
    assert talk.sees(5, held=False).hears(Exited(5, GOOD), Exited(0, GOOD))[-1] == Leave(OK)


def test_slots_that_wait_for_their_next_process_are_recovered_too() -> None:
    talk = running(1).sees(0, held=True)
    talk.hears(Exited(0, SEGV))
    talk.hears(Exited(0, SEGV))
    assert talk.phase(0) is Phase.VACANT
    assert talk.hears(TERM) == [Tell("stopping"), Fork(0, retire=True)]


def test_a_wrong_configuration_recovers_nothing() -> None:
    talk = Talk(1).sees(0, held=True)
    talk.hears()
    assert talk.hears(Exited(0, EXITED + CONFIG))[-1] == Leave(CONFIG)


# What takes long and is no handler


@pytest.mark.parametrize("what", [Outside.FORK, Outside.IMPORT, Outside.START])
def test_a_process_that_does_not_start_is_told_and_then_killed(what: Outside) -> None:
    """Its predecessor's death stays explained; the next one starts after a pause, as after any failure."""
    talk = Talk(1, start_s=30.0)
    talk.hears()
    talk.sees(0, outside=what, outside_at=talk.now, running=True)
    for _ in range(10):
        talk.hears(after=1.0)
    assert talk.said == []
    talk.hears(after=1.5)
    assert "after 10 s; killed after 30 s (--start-timeout)" in talk.said[0]
    for _ in range(19):
        assert talk.hears(after=1.0) == []
    assert talk.hears(after=1.0) == [Kill(0, Cause.STUCK, explain=False)]
    assert talk.sees(0, running=False, outside=Outside.NONE).hears(Exited(0, KILLED))
    assert talk.state.seats[0].boot_failures == 1


@pytest.mark.parametrize("what", [Outside.STOP, Outside.END])
def test_a_process_that_does_not_end_is_killed_and_replaced(what: Outside) -> None:
    talk = running(1, max_messages=1, end_s=3.0).sees(0, finished=5)
    assert talk.hears() == [Drain(0)]
    talk.sees(0, outside=what, outside_at=talk.now, booted=False)
    for _ in range(3):
        assert talk.hears(after=1.0) == []
    assert talk.hears(after=1.0) == [Kill(0, Cause.STUCK)]
    talk.sees(0, outside=Outside.NONE)
    assert talk.hears(Exited(0, KILLED)) == [ended(0, Cause.STUCK, KILLED), Fork(0)]
    assert "died" not in " ".join(talk.said)


def test_time_that_the_master_slept_through_is_not_counted() -> None:
    talk = running(1, max_messages=1, end_s=3.0).sees(0, finished=5)
    talk.hears()
    talk.sees(0, outside=Outside.END, outside_at=talk.now)
    talk.hears(after=1.0)
    assert talk.hears(after=100.0) == []
    assert talk.hears(after=1.0) == []


def test_a_hook_that_begins_after_another_has_its_own_time() -> None:
    talk = running(1, max_messages=1, end_s=3.0).sees(0, finished=5)
    talk.hears()
    for what in (Outside.STOP, Outside.END):
        talk.sees(0, outside=what, outside_at=talk.now)
        for _ in range(3):
            assert talk.hears(after=1.0) == []


def test_a_drain_without_a_handler_that_does_not_end_is_killed() -> None:
    """Our own code hangs; while a handler runs, only its own limit counts."""
    talk = running(1, max_messages=1).sees(0, finished=5).runs(0)
    talk.hears()
    for _ in range(int(DRAIN_S) + 2):
        assert talk.hears(after=1.0) == []
    assert [words for words in talk.said if "still runs; it may run without a limit" in words]
    assert len(talk.said) == 3, "it is said once, after the start and the reason"
    talk.sees(0, running=False)
    for _ in range(int(DRAIN_S)):
        assert talk.hears(after=1.0) == []
    assert talk.hears(after=1.0) == [Kill(0, Cause.STUCK)]


def test_a_worker_of_a_former_master_may_finish_before_the_lease_goes() -> None:
    talk = Talk(1, drain_s=5.0).sees(0, holder=77, held=True, running=True, place=3, entry="3-0")
    talk.hears()
    assert talk.hears(TERM) == [Tell("stopping")]
    assert talk.hears(after=4.9) == []
    assert talk.hears(after=0.2) == [KillStranger(0, 77, 3, Cause.SHUTDOWN)]
    assert talk.hears() == []
    assert talk.sees(0, holder=None).hears() == [Fork(0, retire=True)]
    talk.sees(0, running=False, held=False)
    assert talk.hears(Exited(0, GOOD))[-1] == Leave(OK)


def test_a_slot_is_not_closed_with_entries_in_its_memory() -> None:
    """Its drain found no server: it is tried again, before others charge for them."""
    talk = running(2)
    talk.hears(TTOU)
    talk.sees(1, held=True)
    assert talk.hears(Exited(1, GOOD)) == [ended(1, Cause.CLEAN)]
    assert talk.hears(after=RECOVER_PAUSE_S) == [Fork(1, retire=True)]
    talk.sees(1, held=False)
    assert talk.hears(Exited(1, GOOD)) == [ended(1, Cause.CLEAN), Wake(0)]
    assert talk.phase(1) is Phase.CLOSED


def test_term_while_slots_wait_for_their_next_process() -> None:
    talk = running(1)
    talk.hears(Exited(0, SEGV))
    talk.hears(Exited(0, SEGV))
    assert talk.phase(0) is Phase.VACANT
    assert talk.hears(TERM) == [Tell("stopping"), Leave(OK)]


def test_stop_when_empty() -> None:
    """Only when every slot is settled, none is on its way, and closed slots have been looked after."""
    talk = running(2, until_empty=True)
    assert talk.sees(0, settled=True).hears() == []
    talk.sees(1, settled=True)
    crashed = talk.hears(Exited(1, SEGV))
    assert crashed == [ended(1, Cause.CRASH, SEGV), Fork(1)]
    assert talk.boots(1) == [booted(1), Tell("stopping"), Drain(0), Drain(1)]
    assert talk.hears(Exited(0, GOOD), Exited(1, GOOD))[-1] == Leave(OK)


def test_stop_when_all_are_empty_is_for_the_root_to_say() -> None:
    """What the root has to know is told whenever it changes, and nobody stops for that."""
    talk = running(2, until_empty=True, together=True)
    talk.sees(0, settled=True)
    assert talk.sees(1, settled=True).hears() == [Tell("empty", "1")]
    assert talk.hears() == []
    assert talk.sees(0, settled=False).hears() == [Tell("empty", "0")]
    talk.sees(0, settled=True).hears()
    assert talk.hears(Exited(1, SEGV)) == [ended(1, Cause.CRASH, SEGV), Fork(1), Tell("empty", "0")]
    assert talk.boots(1) == [booted(1), Tell("empty", "1")]
    assert talk.hears(DRAIN) == [Tell("stopping"), Drain(0), Drain(1)]


def test_stop_when_empty_waits_for_the_entries_of_a_closed_slot() -> None:
    talk = running(2, until_empty=True)
    talk.hears(TTOU)
    talk.sees(0, settled=True)
    assert talk.hears() == []
    assert talk.hears(Exited(1, GOOD)) == [ended(1, Cause.CLEAN), Wake(0)]
    assert talk.hears() == []
    assert talk.sees(0, wakes=1).hears() == [Tell("stopping"), Drain(0)]


def test_stop_when_empty_asks_a_new_process_in_slot_0_for_no_more_than_it_was_told() -> None:
    """It looks after closed slots when it boots."""
    talk = running(2, until_empty=True)
    talk.hears(TTOU)
    talk.hears(Exited(1, GOOD))
    assert talk.hears(Exited(0, SEGV)) == [ended(0, Cause.CRASH, SEGV), Fork(0)]
    talk.sees(0, settled=True, wakes=0)
    assert talk.boots(0) == [booted(0), Tell("stopping"), Drain(0)]


# Reload


def rolling(workers: int = 2, **rules: Any) -> Talk:
    """A master that has just executed itself anew and finds all its workers."""
    talk = Talk(workers, found=range(workers), **rules)
    for slot in range(workers):
        talk.sees(slot, booted=True)
    return talk


def test_reload_refused() -> None:
    talk = running()
    assert talk.hears(HUP) == [Tell("reloading"), Try()]
    assert talk.hears(Tried("no module")) == [Tell("reload failed"), Tell("ready")]
    assert "the old code goes on: no module" in talk.said[-1]
    assert talk.hears(HUP) == [Tell("reloading"), Try()]


def test_reload_accepted() -> None:
    talk = running()
    talk.hears(HUP)
    assert talk.hears(Tried("", "app 2")) == [Reexec("app 2")]
    assert talk.hears(Refused("no such file")) == [Tell("reload failed"), Tell("ready")]
    assert "the old code goes on: no such file" in talk.said[-1]


def test_whoever_asks_again_begins_the_trial_anew() -> None:
    """The verdict of the one before no longer counts, not even when it comes at that very moment."""
    talk = running()
    talk.hears(HUP)
    assert talk.hears(HUP) == [Tell("reloading"), Try()]
    assert talk.hears(HUP, Tried("it hangs")) == [Tell("reloading"), Try()]
    assert talk.hears(Tried("")) == [Reexec()]


def test_after_a_reload_slots_are_replaced_one_at_a_time() -> None:
    talk = rolling(2)
    assert talk.hears() == [booted(0), booted(1), Drain(0)]
    assert talk.hears() == []
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.RELOAD), Fork(0)]
    assert talk.hears() == []
    assert talk.boots(0) == [booted(0), Drain(1)]
    assert talk.hears(Exited(1, GOOD)) == [ended(1, Cause.RELOAD), Fork(1)]
    assert talk.boots(1) == [booted(1), Tell("ready")]
    assert talk.said[-1] == "reloaded: every slot runs the new code"


def test_what_runs_is_named_at_the_end_of_a_reload() -> None:
    talk = rolling(1, code="app:handle of /srv/v2/app.py (shop 1.2)")
    talk.hears()
    talk.hears(Exited(0, GOOD))
    talk.boots(0)
    assert talk.said[-1] == "reloaded: every slot runs the new code: app:handle of /srv/v2/app.py (shop 1.2)"


def test_a_reload_does_not_take_a_slot_out_while_another_is_down() -> None:
    talk = rolling(3)
    assert talk.hears(Exited(2, SEGV)) == [
        ended(2, Cause.CRASH, SEGV),
        booted(0),
        booted(1),
        Fork(2),
    ]
    assert talk.hears() == []
    assert talk.boots(2) == [booted(2), Drain(0)]


def test_a_process_that_had_not_booted_at_the_reload_is_still_not_booted() -> None:
    """Its predecessor's reason stays, and no slot is taken out before it is there."""
    talk = rolling(2).sees(1, booted=False).runs(1)
    assert talk.hears() == [booted(0)]
    died = talk.hears(Exited(1, KILLED))
    assert died == [Record(1, Death(Cause.CRASH, KILLED), explain=False), Fork(1)]


def test_a_reload_that_finds_no_worker_alive_is_a_reload() -> None:
    """The only one had just crashed: the pool has booted before, and is not started for the first time."""
    talk = Talk(1, found=[])
    assert talk.hears() == [Fork(0)]
    assert talk.boots(0) == [booted(0), Tell("ready")]
    assert talk.said[-1] == "reloaded: every slot runs the new code"


def test_exit_code_78_after_a_reload_does_not_end_the_pool() -> None:
    """The old code goes on in the other slots."""
    assert not any(isinstance(action, Tell) for action in rolling(2).hears(Exited(1, EXITED + CONFIG)))


def test_a_reload_during_a_reload_starts_over_with_the_newest_code() -> None:
    """Else new code whose workers do not boot could only be mended by a restart."""
    talk = rolling(2)
    talk.hears()
    talk.hears(Exited(0, GOOD))
    talk.hears(Exited(0, EXITED + 70))
    assert talk.hears(HUP) == [Tell("reloading"), Try()]
    assert Reexec() in talk.hears(Tried(""))


def test_a_reload_waits_for_the_end_of_a_start() -> None:
    talk = Talk(1)
    assert talk.hears(HUP) == [Fork(0, first=True)]
    assert talk.boots(0) == [booted(0), Tell("ready"), Tell("reloading"), Try()]
    assert talk.hears(Tried("no module")) == [Tell("reload failed"), Tell("ready")]


def test_a_reload_is_refused_while_the_pool_stops() -> None:
    talk = running(1)
    talk.hears(TERM)
    assert talk.hears(HUP) == []


def test_term_in_the_middle_of_a_reload() -> None:
    """While the new code is tried: its verdict no longer matters. While slots roll: all of them drain."""
    talk = running(1)
    assert talk.hears(HUP, TERM)[-1] == Drain(0)
    assert talk.hears(Tried("")) == []
    assert talk.hears(Exited(0, GOOD))[-1] == Leave(OK)
    talk = rolling(2)
    talk.hears()
    assert talk.hears(TERM) == [Tell("stopping"), Drain(0), Drain(1)]
    assert talk.hears(Exited(0, GOOD), Exited(1, GOOD))[-1] == Leave(OK)


def test_a_drain_for_a_reload_has_no_deadline() -> None:
    talk = rolling(2, drain_s=1.0)
    talk.hears()
    talk.runs(0)
    for _ in range(100):
        assert talk.hears(after=1.0) == []


def test_a_reload_with_fewer_workers_closes_slots() -> None:
    talk = Talk(1, found=[0, 1]).sees(0, booted=True).sees(1, booted=True)
    assert talk.hears() == [booted(0), booted(1), Drain(1), Drain(0)]
    assert talk.hears() == []
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.RELOAD), Fork(0)]
    assert talk.boots(0) == [booted(0)]
    assert talk.state.rolling, "slot 1 still runs the old code"
    assert talk.hears(Exited(1, GOOD)) == [ended(1, Cause.CLEAN), Wake(0), Tell("ready")]


# More and fewer


def test_one_worker_more() -> None:
    talk = running(1)
    assert talk.hears(TTIN) == []
    assert talk.deadline < 0.01, "a look at the slot first"
    assert talk.hears() == [Fork(1)]
    assert talk.boots(1) == [booted(1)]


def test_one_worker_more_where_a_worker_of_a_former_master_still_sits() -> None:
    talk = running(1)
    talk.hears(TTIN)
    assert talk.sees(1, holder=4242).hears() == []
    assert talk.sees(1, holder=None).hears(after=1.0) == [Fork(1)]


def test_one_worker_fewer() -> None:
    """It drains; then slot 0 takes over what it has handed back; the last worker stays."""
    talk = running(2)
    assert talk.hears(TTOU) == [Drain(1)]
    assert talk.hears(TTOU) == []
    assert talk.said[-1] == "the last worker stays"
    assert talk.hears(Exited(1, GOOD)) == [ended(1, Cause.CLEAN), Wake(0)]
    assert talk.phase(1) is Phase.CLOSED


def test_one_fewer_and_one_more_before_it_has_gone() -> None:
    talk = running(2)
    assert talk.hears(TTOU) == [Drain(1)]
    assert talk.hears(TTIN) == []
    assert talk.hears(Exited(1, GOOD)) == [ended(1, Cause.CLEAN), Fork(1)]


def test_a_closed_slot_opens_again() -> None:
    talk = running(2)
    talk.hears(TTOU)
    talk.hears(Exited(1, GOOD))
    talk.hears(TTIN)
    assert talk.hears() == [Fork(1)]


def test_a_slot_that_crashes_while_it_is_closed_is_put_in_order() -> None:
    talk = running(2).runs(1)
    talk.hears(TTOU)
    talk.sees(1, held=True)
    assert talk.hears(Exited(1, SEGV)) == [ended(1, Cause.CRASH, SEGV), Fork(1, retire=True)]
    talk.sees(1, held=False, running=False)
    assert talk.hears(Exited(1, GOOD)) == [ended(1, Cause.CLEAN), Wake(0)]


def test_a_slot_that_still_boots_is_closed_when_it_has() -> None:
    talk = running(1)
    talk.hears(TTIN)
    talk.hears()
    assert talk.hears(TTOU) == []
    assert talk.boots(1) == [booted(1), Drain(1)]


def test_there_is_no_room_for_more_than_the_segment_holds() -> None:
    talk = running(2, capacity=2)
    assert talk.hears(TTIN) == []
    assert "no room" in talk.said[-1]


def test_more_and_fewer_while_reloading() -> None:
    """A new slot runs new code at once; a closed one is not rolled, but waited for."""
    talk = rolling(3)
    talk.hears()
    assert talk.hears(TTOU) == [Drain(2)]
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.RELOAD), Fork(0)]
    assert talk.boots(0) == [booted(0), Drain(1)]
    assert talk.hears(Exited(1, GOOD)) == [ended(1, Cause.RELOAD), Fork(1)]
    assert talk.boots(1) == [booted(1)]
    assert talk.hears() == [], "told once"
    assert talk.hears(Exited(2, GOOD)) == [ended(2, Cause.CLEAN), Wake(0), Tell("ready")]
    talk = rolling(2)
    talk.hears()
    talk.hears(TTIN)
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.RELOAD), Fork(0), Fork(2)]
    assert talk.boots(0) == [booted(0)], "slot 2 is still on its way"
    assert talk.boots(2) == [booted(2), Drain(1)]


# Recycling


def test_a_process_that_has_done_its_share_is_replaced() -> None:
    talk = running(1, max_messages=100)
    assert talk.sees(0, finished=99).hears() == []
    assert talk.sees(0, finished=100).hears() == [Drain(0)]
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.RECYCLE), Fork(0)]
    talk.boots(0)
    assert talk.sees(0, finished=199).hears() == []
    assert talk.sees(0, finished=200).hears() == [Drain(0)]


def test_one_at_a_time_is_recycled_however_many_are_due() -> None:
    talk = running(3, max_messages=10)
    for slot in range(3):
        talk.sees(slot, finished=50)
    assert talk.hears() == [Drain(0)]
    assert talk.hears() == []
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.RECYCLE), Fork(0)]
    assert talk.hears() == []
    assert talk.boots(0) == [booted(0), Drain(1)]


def test_nobody_is_recycled_while_a_slot_is_down() -> None:
    talk = running(2, max_messages=10)
    talk.sees(0, finished=50)
    assert talk.hears(Exited(1, SEGV)) == [ended(1, Cause.CRASH, SEGV), Fork(1)]
    assert talk.hears() == []


def test_the_share_varies_so_that_slots_that_started_together_do_not_end_together() -> None:
    limits = set()
    for jitter in (0.0, 0.25, 0.5, 0.75, 0.99):
        talk = Talk(1, max_messages=100)
        talk.jitter = jitter
        talk.hears()
        limits.add(talk.state.seats[0].limit)
    assert limits == {90, 95, 100, 105, 110}
    talk = Talk(1, max_messages=1)
    talk.hears()
    assert talk.state.seats[0].limit == 1, "never zero, which would be no limit"


def test_a_process_that_has_grown_is_replaced() -> None:
    """Growth since its boot counts, not size: a successor must not be over the limit from the start."""
    talk = running(1, max_growth=50)
    talk.sees(0, memory=1000)
    assert talk.hears() == []
    assert talk.sees(0, memory=1050).hears() == []
    assert talk.sees(0, memory=None).hears() == []
    assert talk.sees(0, memory=1051).hears() == [Drain(0)]
    assert talk.hears(Exited(0, GOOD)) == [ended(0, Cause.RECYCLE), Fork(0)]
    assert talk.boots(0) == [booted(0)]
    assert talk.sees(0, memory=1101).hears() == []
    assert talk.sees(0, memory=1102).hears() == [Drain(0)]


def test_a_process_that_ends_because_it_has_done_its_share_is_recycled() -> None:
    """It looks itself, between two entries, and is not told to end."""
    talk = running(2)
    done = EXITED + RECYCLED
    assert talk.sees(0, finished=3).hears(Exited(0, done)) == [ended(0, Cause.RECYCLE, done), Fork(0)]
    talk.boots(0)
    assert talk.runs(1).hears(Exited(1, done))[0] == ended(1, Cause.CRASH, done), "the handler ended it"


def test_a_process_that_has_done_its_share_before_its_boot_was_seen_is_recycled() -> None:
    talk = Talk(1)
    assert talk.hears() == [Fork(0, first=True)]
    done = EXITED + RECYCLED
    actions = talk.sees(0, finished=1).hears(Exited(0, done))
    assert ended(0, Cause.RECYCLE, done) in actions
    assert any(isinstance(action, Fork) for action in actions), "at once"
    assert talk.state.seats[0].boot_failures == 0


def test_a_crash_on_the_way_out_is_a_crash() -> None:
    talk = running(1, max_messages=10).runs(0)
    talk.sees(0, finished=50).hears()
    assert talk.hears(Exited(0, SEGV)) == [ended(0, Cause.CRASH, SEGV), Fork(0)]


# The instance lease


def fenced(**rules: Any) -> Talk:
    """A handler in slot 0 that was stopped because the lease could not be trusted any more."""
    talk = running(**rules).runs(0)
    talk.hears()
    talk.trust_s = 0.0
    assert talk.hears() == [Freeze(0)]
    assert talk.hears(Halted(0), after=1.0) == []
    return talk


def test_user_code_is_stopped_while_the_lease_cannot_be_trusted() -> None:
    """Others may be given its entry meanwhile. Workers outside of user code stand by on their own."""
    talk = fenced()
    for _ in range(5):
        assert talk.hears(after=1.0) == []
    talk.trust_s = 5.0
    assert talk.hears() == [Thaw(0)]
    assert talk.hears() == []


def test_the_master_wakes_when_the_trust_ends() -> None:
    talk = running().runs(0)
    talk.trust_s = 0.4
    talk.hears()
    assert talk.deadline == pytest.approx(0.401)


def test_an_entry_that_another_has_by_now_is_not_gone_on_with() -> None:
    """Its process is killed before it moves; nobody is charged for that."""
    talk = fenced().sees(0, robbed=7)
    talk.trust_s = 5.0
    assert talk.hears() == [Kill(0, Cause.SHUTDOWN)]
    assert talk.hears(Exited(0, KILLED)) == [ended(0, Cause.SHUTDOWN, KILLED), Fork(0)]
    assert "its entry belongs to another instance" in talk.said[-1]
    talk.sees(0, running=False)
    talk.boots(0)
    talk.runs(0, place=8).hears()
    assert talk.hears(Exited(0, SEGV))[0] == ended(0, Cause.CRASH, SEGV)
    assert "another instance" not in talk.said[-1]


def test_what_was_robbed_before_means_nothing_for_what_runs_now() -> None:
    talk = fenced().sees(0, robbed=6)
    talk.trust_s = 5.0
    assert talk.hears() == [Thaw(0)]
    talk = fenced().sees(0, robbed=7, running=False)
    talk.trust_s = 5.0
    assert talk.hears() == [Thaw(0)], "it had finished in the last moment"


def test_the_time_without_a_lease_does_not_count_for_the_time_limit() -> None:
    talk = fenced(timeout_s=3.0)
    for _ in range(10):
        assert talk.hears(after=1.0) == []
    talk.trust_s = math.inf
    assert talk.hears(after=1.0) == [Thaw(0)]
    assert talk.hears(after=1.9) == []
    assert talk.hears(after=1.1) == [Freeze(0)]
    assert talk.hears(Halted(0)) == [Kill(0, Cause.TIMEOUT, place=7)]


def test_frozen_for_its_time_and_without_a_lease() -> None:
    """Whatever the reason, it is stopped once and let go once."""
    talk = running(timeout_s=3.0).runs(0)
    frozen(talk)
    talk.trust_s = 0.0
    assert talk.hears() == []
    talk.runs(0, place=8)
    assert talk.hears(Halted(0)) == [Thaw(0), Freeze(0)]
    talk.trust_s = 5.0
    assert talk.hears() == [Thaw(0)]


def test_a_pool_without_a_lease_can_be_stopped() -> None:
    talk = fenced(drain_s=5.0)
    assert talk.hears(TERM) == [Tell("stopping"), Drain(0), Drain(1)]
    talk.hears(Exited(1, GOOD))
    assert talk.hears(after=5.0) == [Kill(0, Cause.SHUTDOWN)]
    assert Leave(OK) in talk.hears(Exited(0, KILLED))
    talk = fenced(drain_s=5.0)
    talk.hears(TERM)
    talk.trust_s = 5.0
    assert talk.hears() == [Thaw(0)]


def test_a_stopped_process_that_dies_leaves_a_successor_that_is_not_stopped() -> None:
    talk = fenced()
    assert talk.hears(Exited(0, KILLED)) == [ended(0, Cause.CRASH, KILLED), Fork(0)]
    assert talk.hears(after=1.0) == [], "what counts as running there is the predecessor's"
    talk.sees(0, running=False)
    talk.boots(0)
    talk.trust_s = 5.0
    assert talk.hears() == []


def test_a_slot_that_was_handed_entries_is_woken_once_for_each_time() -> None:
    """A new process looks at boot anyway: what was handed before its fork is no reason to wake it."""
    talk = running().sees(1, handed=1)
    assert talk.hears() == [Wake(1)]
    assert talk.hears() == []
    talk.sees(1, handed=3)
    assert talk.hears() == [Wake(1)]
    assert talk.state.seats[1].wakes == 2
    talk.hears(Exited(1, SEGV))
    talk.boots(1)
    assert talk.state.seats[1].wakes == 0
    assert talk.hears() == []


# Odds and ends


def test_logs_are_opened_again() -> None:
    assert running().hears(USR1) == [ReopenLogs()]


def test_a_signal_that_means_nothing_to_us_does_nothing() -> None:
    """User code that was preloaded may have asked for signals of its own."""
    assert running().hears(Signalled("SIGUSR2"), Signalled("SIGWINCH")) == []


@pytest.mark.parametrize("event", [Exited(2, SEGV), Unforkable(0, "no"), Tried(""), Tried("no")], ids=repr)
def test_what_cannot_be_raises_and_changes_nothing(event: Event) -> None:
    talk = running(3)
    talk.hears(TTOU)
    talk.hears(Exited(2, GOOD))
    before = talk.state
    with pytest.raises(ValueError, match=r"slot|nobody"):
        talk.hears(event)
    assert talk.state is before


def test_the_status_line_is_told_when_it_changes() -> None:
    talk = running(2)
    _, actions = step(talk.state, [Exited(1, SEGV)], {0: Sight(booted=True)}, 101.0, talk.rules, lambda: 0.5)
    assert Tell("status", "1 of 2 workers run") in actions


# Anything may happen


class World:
    """Processes that do as they are told, die as they like, and check what the policy asks for."""

    def __init__(self, rules: Rules, found: int, strangers: set[int]) -> None:
        self.rules, self.now = rules, 100.0
        self.state = begin(rules, range(found) if found else None)
        self.processes = {slot: _Process(booted=True) for slot in range(found)}
        self.strangers = {slot: 5000 + slot for slot in strangers if slot >= found}
        self.reasons: dict[
            int, Death
        ] = {}  # slot -> why the process died whose entry still counts as running
        self.running: dict[int, tuple[int, float]] = {}  # slot -> place and time of its start
        self.finished = dict.fromkeys(range(20), 0)
        self.places = 0
        self.tried = False
        self.left: int | None = None
        self.trusted = True

    def step(self, events: Sequence[Event], after: float) -> None:
        """One pass, and what follows from it."""
        assert self.left is None
        self.now += after
        before = self.state
        gone = {event.slot: self.processes.pop(event.slot) for event in events if isinstance(event, Exited)}
        sights = {slot: self.sight(slot, gone.get(slot)) for slot in self.state.seats}
        trust_s = 5.0 if self.trusted else 0.0
        self.state, actions = step(self.state, events, sights, self.now, self.rules, lambda: 0.5, trust_s)
        for action in actions:
            if isinstance(action, KillStranger):
                del self.strangers[action.slot]
            self.perform(action, gone)
        self.check(before)

    def sight(self, slot: int, gone: _Process | None) -> Sight:
        process = self.processes.get(slot, gone)
        place, since = self.running.get(slot, (0, 0.0))
        return Sight(
            holder=self.strangers.get(slot),
            booted=process is not None and process.booted,
            running=bool(place),
            place=place,
            since=since,
            finished=self.finished[slot],
            settled=process is not None and process.booted and not place,
            held=bool(place),
        )

    def perform(self, action: Action, gone: dict[int, _Process]) -> None:
        match action:
            case Fork(slot, retire):
                assert slot not in self.processes, "there is a process"
                assert slot not in self.strangers, "there is a process of a former master"
                assert retire or self.state.stage is not Stage.STOPPING
                self.processes[slot] = _Process(told=retire)
            case Drain(slot):
                self.get(slot, gone).told = True
            case Freeze(slot):
                assert not self.get(slot, gone).frozen
                self.get(slot, gone).frozen = True
            case Thaw(slot):
                assert self.get(slot, gone).frozen
                self.get(slot, gone).frozen = False
            case Kill(slot, cause, place, explain):
                self.get(slot, gone).killed = True
                if cause is Cause.TIMEOUT:
                    assert place == self.running[slot][0]
                    assert self.now - self.running[slot][1] >= self.rules.timeout_s - 0.001
                if explain:
                    assert slot not in self.reasons, "the reason was still needed"
            case Record(slot, death, count, explain):
                if slot in gone and count and (gone[slot].booted or slot not in self.running):
                    assert explain
                    self.reasons.pop(slot, None)
                    if slot in self.running:
                        self.reasons[slot] = death
                elif explain and count:
                    raise AssertionError("the reason was still needed")
            case Try():
                self.tried = True
            case Leave(code):
                assert not self.processes
                self.left = code

    def get(self, slot: int, gone: dict[int, _Process]) -> _Process:
        return self.processes.get(slot) or gone[slot]

    def check(self, before: State) -> None:
        seats = self.state.seats
        assert {slot for slot, seat in seats.items() if seat.alive} == self.processes.keys()
        ours = (Cause.RELOAD, Cause.RECYCLE)
        out = [s for s in seats.values() if s.phase is Phase.DRAINING and s.leave in ours]
        assert len(out) <= 1 or self.state.stage is Stage.STOPPING
        for seat in out:
            if before.seats[seat.slot].phase is not Phase.DRAINING:
                others = [s for slot, s in seats.items() if slot < self.state.wanted and slot != seat.slot]
                assert all(other.phase is Phase.RUNNING for other in others)
        for process, seat in ((self.processes[slot], seats[slot]) for slot in self.processes):
            watched = seat.frozen_at is not None or (seat.fenced and not self.trusted)
            assert not process.frozen or process.killed or watched, "frozen and forgotten"
            if not self.trusted and process.booted and seat.slot in self.running:
                assert process.frozen or process.killed, "it runs without a lease"
            if process.frozen and not process.killed and not seat.fenced:
                assert self.now <= (seat.frozen_at or 0) + FREEZE_S
        assert self.now <= next_deadline(self.state, self.rules, self.now) <= self.now + TICK_S
        assert self.state.wanted >= 1

    # What may happen

    def happen(self, what: str, slot: int, after: float) -> None:
        process = self.processes.get(slot)
        events: list[Event] = []
        if what.startswith("SIG"):
            events.append(Signalled(what))
        elif what.startswith("the lease"):
            self.trusted = what == "the lease is back"
        elif what == "stranger goes":
            self.strangers.pop(slot, None)
        elif what.startswith("tried") and self.tried:
            self.tried = False
            events.append(Tried("" if what == "tried well" else "it is broken"))
        elif process is not None:
            events = self.live(process, what, slot)
        self.step(events, after)
        if Reexec() in self.performed(events):
            self.reload()

    def performed(self, events: Sequence[Event]) -> list[Action]:
        return [Reexec()] if Tried("") in events and self.state.stage is not Stage.STOPPING else []

    def reload(self) -> None:
        """The same processes, a new master that knows nothing else."""
        for process in self.processes.values():
            process.frozen = process.killed = False
        self.state = begin(self.rules, list(self.processes))

    def live(self, process: _Process, what: str, slot: int) -> list[Event]:
        """Let a process do something, if it can; return what its master hears of it."""
        busy = slot in self.running and process.booted
        if what == "dies":
            return [Exited(slot, KILLED if process.killed else SEGV)]
        if process.killed:
            return [Exited(slot, KILLED)] if what in ("ends", "boots", "halts") else []
        if process.frozen:
            return [Halted(slot)] if what == "halts" else []
        if what == "boots" and not process.booted:
            process.booted = True
            self.running.pop(slot, None)
            self.reasons.pop(slot, None)
        elif what == "starts an entry" and process.booted and not busy and not process.told:
            self.places += 1
            self.running[slot] = (self.places, self.now)
        elif what in ("ends an entry", "ends") and busy:
            del self.running[slot]
            self.finished[slot] += 1
        elif what == "ends" and process.told:
            process.booted = False
            return [Exited(slot, GOOD)]
        elif what == "exits 78" and not process.booted:
            return [Exited(slot, EXITED + CONFIG)]
        elif (
            what == "cannot be forked"
            and not process.booted
            and self.state.seats[slot].phase is Phase.STARTING
        ):
            del self.processes[slot]
            return [Unforkable(slot, "no room")]
        return []


class _Process:
    def __init__(self, *, booted: bool = False, told: bool = False) -> None:
        self.booted, self.told, self.frozen, self.killed = booted, told, False, False


SIGNALS = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2"]
LIFE = ["boots", "starts an entry", "ends an entry", "ends"]
LEASE = ["the lease is lost", "the lease is back"]
FAULTS = ["dies", "exits 78", "cannot be forked", "halts", "stranger goes", "tried well", "tried badly"]
HAPPENINGS = st.lists(
    st.tuples(
        st.one_of(
            st.sampled_from(LIFE),
            st.sampled_from(LIFE),
            st.sampled_from([*FAULTS, *LEASE]),
            st.sampled_from(SIGNALS[3:]),
            st.sampled_from([*LIFE, *SIGNALS]),
        ),
        st.integers(0, 4),
        st.sampled_from([0.0, 0.001, 0.3, 1.0, 1.0, 50.0]),
    ),
    max_size=150,
)
RULES = st.builds(
    Rules,
    workers=st.integers(1, 4),
    timeout_s=st.sampled_from([0.0, 0.5, 2.0]),
    drain_s=st.sampled_from([0.0, 3.0]),
    max_messages=st.sampled_from([0, 2]),
    until_empty=st.booleans(),
    capacity=st.just(5),
)


@given(RULES, st.booleans(), st.sets(st.integers(0, 4)), HAPPENINGS)
@settings(max_examples=400, deadline=None)
def test_whatever_happens(
    rules: Rules, reloaded: bool, strangers: set[int], happenings: list[tuple[str, int, float]]
) -> None:
    """Legal events never raise; no slot gets a second process; one is out at most; no reason is lost."""
    world = World(rules, rules.workers if reloaded else 0, strangers)
    for what, slot, after in happenings:
        world.happen(what, slot, after)
        if world.left is not None:
            return


@given(RULES, st.booleans(), st.sets(st.integers(0, 4)), HAPPENINGS)
@settings(max_examples=100, deadline=None)
def test_whatever_has_happened_term_ends_it(
    rules: Rules, reloaded: bool, strangers: set[int], happenings: list[tuple[str, int, float]]
) -> None:
    """With processes that do as they are told; those that do not are killed at the deadline."""
    world = World(rules, rules.workers if reloaded else 0, strangers)
    for what, slot, after in [*happenings, ("SIGTERM", 0, 0.0)]:
        if world.left is None:
            world.happen(what, slot, after)
    for _ in range(20):
        for slot in list(world.processes):
            if world.left is None and slot in world.processes:
                world.happen("halts" if world.processes[slot].frozen else "ends", slot, 1.0)
        if world.left is None:
            world.step([], 0.5)
    assert world.left is not None
