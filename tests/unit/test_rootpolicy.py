"""The root's policy: what it does for several pools, told as a conversation. No process, no clock."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.ipc.exitcodes import CONFIG, EXITED, NEVER_BOOTED, OK
from rsq.supervisor import link
from rsq.supervisor.backoff import MAX_S
from rsq.supervisor.rootpolicy import RELOAD_S, STEADY_S, begin, next_deadline, step
from rsq.supervisor.rootstates import (
    ALIVE,
    Action,
    End,
    Event,
    Gone,
    Kill,
    Leave,
    Phase,
    Prepared,
    Send,
    Sight,
    Start,
    State,
)
from rsq.supervisor.states import Reexec, Refused, ReopenLogs, Say, Signalled, Stage, Tell, Tried, Try

TERM, INT, QUIT, HUP = (Signalled(f"SIG{name}") for name in ("TERM", "INT", "QUIT", "HUP"))
GOOD, KILLED = EXITED + OK, int(signal.SIGKILL)


class Talk:
    """A root's policy, and what the shell would tell it."""

    def __init__(self, *names: str, found: dict[str, Phase] | None = None) -> None:
        self.state: State = begin(names, found)
        self.now = 100.0
        self.sights: dict[str, Sight] = {}
        self.said: list[str] = []
        self.told: list[str] = []

    def sees(self, name: str, **values: Any) -> Talk:
        self.sights[name] = replace(self.sights.get(name, Sight()), **values)
        return self

    def hears(self, *events: Event, after: float = 0.01) -> list[Action]:
        """Take a step and return what is to be done; what is told to people is kept apart."""
        self.now += after
        for event in events:
            if isinstance(event, Gone):
                self.sights.pop(event.name, None)
        self.state, actions = step(self.state, events, self.sights, self.now)
        self.said += [action.words for action in actions if isinstance(action, Say)]
        self.told += [
            action.what for action in actions if isinstance(action, Tell) and action.what != "status"
        ]
        return [action for action in actions if not isinstance(action, Say | Tell)]

    def phase(self, name: str) -> Phase:
        return self.state.charges[name].phase


def running(*names: str) -> Talk:
    """A root whose pools all run."""
    talk = Talk(*names)
    talk.hears()
    talk.hears(*(Prepared(name) for name in names))
    for name in names:
        talk.sees(name, ready=True)
    talk.hears()
    assert all(talk.phase(name) is Phase.RUNNING for name in names)
    return talk


def test_nobody_begins_before_all_are_prepared() -> None:
    talk = Talk("a", "b")
    assert talk.hears() == [Start("a"), Start("b")]
    assert talk.hears(Prepared("b")) == []
    assert talk.hears(Prepared("a")) == [Send("a", link.GO), Send("b", link.GO)]
    assert talk.sees("a", ready=True).hears() == []
    assert talk.told == []
    assert talk.sees("b", ready=True).hears() == []
    assert talk.told == ["ready"]


def test_a_wrong_one_ends_all_before_anything_is_read() -> None:
    """It has said why in its own line: nobody says more."""
    talk = Talk("a", "b", "c")
    talk.hears()
    talk.hears(Prepared("a"))
    assert talk.hears(Gone("b", EXITED + CONFIG)) == [End("a"), End("c")]
    assert talk.said == []
    assert talk.hears(Gone("a", GOOD)) == []
    # One that was ended before it could handle the signal is no fault of its own.
    assert talk.hears(Gone("c", signal.SIGTERM)) == [Leave(CONFIG)]
    assert talk.said == []


def test_one_that_never_runs_ends_all_with_its_code() -> None:
    talk = Talk("a", "b")
    talk.hears()
    talk.hears(Prepared("a"), Prepared("b"))
    talk.sees("a", ready=True)
    assert talk.hears(Gone("b", EXITED + NEVER_BOOTED)) == [Send("a", link.DRAIN)]
    assert talk.hears(Gone("a", GOOD)) == [Leave(NEVER_BOOTED)]


def test_a_master_that_is_killed_at_the_start_has_more_tries() -> None:
    talk = Talk("a")
    talk.hears()
    assert talk.hears(Gone("a", KILLED)) == [Start("a")]
    assert talk.hears(Gone("a", KILLED)) == []
    assert talk.hears(after=1.0) == [Start("a")]
    assert talk.hears(Gone("a", KILLED)) == [Leave(NEVER_BOOTED)]


def test_later_pools_stand_alone() -> None:
    """A new master at once, then ever more rarely; the others are left alone."""
    talk = running("a", "b")
    assert talk.hears(Gone("a", KILLED), after=STEADY_S) == [Start("a")]
    assert talk.hears(Prepared("a")) == [Send("a", link.GO)]
    talk.hears(Gone("a", EXITED + CONFIG))
    pauses = []
    for _ in range(12):
        before = talk.now
        while talk.phase("a") is Phase.ABSENT:
            talk.hears(after=max(0.01, next_deadline(talk.state, talk.now, until_empty=False) - talk.now))
        pauses.append(talk.now - before)
        talk.hears(Gone("a", EXITED + CONFIG))
    assert pauses == sorted(pauses)
    assert MAX_S <= pauses[-1] < MAX_S + 2
    assert talk.phase("b") is Phase.RUNNING
    assert talk.state.stage is Stage.RUNNING


def test_who_ends_in_good_order_stays_away_and_the_last_one_ends_the_root() -> None:
    talk = running("a", "b")
    assert talk.hears(Gone("a", GOOD)) == []
    assert talk.hears(after=100.0) == []
    assert talk.hears(Gone("b", GOOD)) == [Leave(OK)]


def test_stopping() -> None:
    """One drain; a second request ends the patience; the code is that of the first that failed."""
    talk = running("a", "b", "c")
    assert talk.hears(TERM) == [Send("a", link.DRAIN), Send("b", link.DRAIN), Send("c", link.DRAIN)]
    assert talk.hears(Gone("a", GOOD)) == []
    assert talk.hears(INT) == [Send("b", link.PRESS), Send("c", link.PRESS)]
    assert talk.hears(QUIT) == [Send("b", link.QUIT), Send("c", link.QUIT)]
    assert talk.hears(Gone("b", EXITED + 73)) == []
    assert talk.hears(Gone("c", KILLED)) == [Leave(73)]
    assert talk.told == ["ready", "stopping"]


def test_stopping_while_one_waits_to_be_started_again() -> None:
    talk = running("a", "b")
    talk.hears(Gone("a", KILLED))
    talk.hears(Gone("a", KILLED))
    assert talk.phase("a") is Phase.ABSENT
    assert talk.hears(TERM) == [Send("b", link.DRAIN)]
    assert talk.hears(Gone("b", GOOD), after=100.0) == [Leave(OK)]


def test_what_goes_to_every_pool() -> None:
    talk = running("a", "b")
    talk.hears(Gone("b", KILLED))  # its successor does not listen yet
    assert talk.hears(Signalled("SIGTTIN")) == [Send("a", link.MORE)]
    assert talk.hears(Signalled("SIGTTOU")) == [Send("a", link.FEWER)]
    assert talk.hears(Signalled("SIGUSR1")) == [ReopenLogs(), Send("a", link.LOGS)]


def test_a_reload_tries_the_settings_first() -> None:
    talk = running("a", "b")
    assert talk.hears(HUP) == [Try()]
    assert talk.hears(Tried("no such setting")) == []
    assert talk.told == ["ready", "reloading", "ready"]
    assert talk.hears(HUP) == [Try()]
    assert talk.hears(Tried("")) == [Reexec()]
    assert talk.hears(Refused("no such file")) == []
    assert talk.told == ["ready", "reloading", "ready", "reloading", "ready"]


def test_whoever_asks_again_begins_the_trial_of_settings_anew() -> None:
    talk = running("a")
    talk.hears(HUP)
    assert talk.hears(HUP) == [Try()]
    assert talk.hears(HUP, Tried("it hangs")) == [Try()]
    assert talk.hears(Tried("")) == [Reexec()]


def test_after_a_reload() -> None:
    """Who stays is told to reload, who came is started, who went is drained; ready when that is done."""
    talk = Talk("a", "b", "new", found={"a": Phase.RUNNING, "b": Phase.STARTING, "old": Phase.RUNNING})
    talk.sees("a", ready=True, reloads=3).sees("old", ready=True)
    assert talk.hears() == [Send("old", link.DRAIN), Send("a", link.RELOAD), Start("new")]
    assert talk.hears(Gone("old", GOOD), Prepared("new")) == [Send("new", link.GO)]
    assert "old" not in talk.state.charges
    talk.sees("new", ready=True).sees("b", ready=True, reloads=1)
    assert talk.hears() == [Send("b", link.RELOAD)]
    talk.sees("a", reloading=True).sees("b", reloads=2)
    assert talk.hears() == []
    assert talk.told == []
    talk.sees("a", reloading=False, reloads=4)
    assert talk.hears() == []
    assert talk.told == ["ready"]


def test_nobody_waits_for_ever_for_the_end_of_a_reload() -> None:
    talk = Talk("a", "bad", found={"a": Phase.RUNNING})
    talk.sees("a", ready=True, reloads=3)
    talk.hears()
    talk.hears(Gone("bad", EXITED + CONFIG))
    assert talk.told == []
    talk.hears(after=RELOAD_S)
    assert talk.told == ["ready"]
    assert "reload done: 1 of 2 pools run" in talk.said


def test_a_master_that_hangs_is_killed() -> None:
    talk = running("a", "b")
    assert talk.sees("a", hung=True).hears() == [Kill("a")]
    assert talk.sees("a", hung=False).hears() == []
    assert talk.hears(Gone("a", KILLED)) == [Start("a")]


def test_empty_is_only_empty_when_all_are_at_one_time() -> None:
    talk = running("a", "b")
    talk.sees("a", empty=(7, (10, 10))).sees("b", empty=(3, (5,)))
    assert talk.hears() == []
    talk.sees("a", empty=(7, (12, 11))).sees("b", empty=(3, (9,)))
    assert talk.hears() == [], "slot 1 of a has not read anew"
    talk.sees("b", empty=None)
    assert talk.hears() == []
    talk.sees("b", empty=(4, (10,)))
    assert talk.hears() == [], "b has finished something: a may have got something new"
    talk.sees("a", empty=(7, (14, 13))).sees("b", empty=(4, (11,)))
    assert talk.hears() == []
    talk.sees("b", empty=(4, (12,)))
    assert talk.hears() == [Send("a", link.DRAIN), Send("b", link.DRAIN)]


def test_a_pool_that_waits_to_be_started_again_is_not_empty() -> None:
    """What its dead master's workers hand back is still to be done."""
    talk = running("a", "b")
    talk.sees("a", empty=(7, (10, 10)))
    talk.hears(Gone("b", KILLED))
    talk.hears(Gone("b", KILLED))
    assert talk.phase("b") is Phase.ABSENT
    for reads in range(11, 30, 3):
        talk.sees("a", empty=(7, (reads, reads)))
        assert talk.hears() == []
    assert talk.state.stage is Stage.RUNNING


def test_words_of_strangers_change_nothing() -> None:
    talk = running("a")
    before = talk.state
    assert talk.hears(Signalled("SIGWINCH"), Prepared("a")) == []
    assert talk.state == before


EVENTS = st.one_of(
    st.sampled_from(["TERM", "HUP", "QUIT", "tried", "refused", "tick"]),
    st.tuples(
        st.sampled_from(["prepared", "ready", "busy", "good", "config", "killed"]), st.sampled_from("abc")
    ),
)


@given(st.lists(EVENTS, max_size=60))
def test_whatever_happens_it_can_be_stopped_and_leaves_nobody(events: list[Any]) -> None:  # noqa: C901
    """Each master is started once at a time, spoken to while it lives; the end comes when all are gone."""
    talk = Talk("a", "b", "c")
    alive: set[str] = set()
    left: list[int] = []

    def do(*heard: Event, after: float = 0.5) -> None:
        for action in talk.hears(*heard, after=after):
            match action:
                case Start(name):
                    assert name not in alive
                    alive.add(name)
                case Send(name) | End(name) | Kill(name):
                    assert name in alive
                case Leave(code):
                    assert not alive
                    left.append(code)

    do()
    for event in events:
        if left:
            return
        match event:
            case "tried" | "refused" if talk.state.trial:
                do(Tried("" if event == "tried" else "bad"))
            case "TERM" | "HUP" | "QUIT":
                do(Signalled(f"SIG{event}"))
            case ("prepared", name) if name in alive:
                do(Prepared(name))
            case (("ready" | "busy") as what, name) if talk.phase(name) in (Phase.STARTING, Phase.RUNNING):
                talk.sees(name, ready=what == "ready")
                do()
            case (("good" | "config" | "killed") as how, name) if name in alive:
                alive.discard(name)
                do(Gone(name, {"good": GOOD, "config": EXITED + CONFIG, "killed": KILLED}[how]))
            case _:
                do(after=3.0)
        assert {name for name in talk.state.charges if talk.phase(name) in ALIVE} == alive
    if not left:
        do(TERM)
    for name in sorted(alive):
        alive.discard(name)
        do(Gone(name, GOOD))
    assert len(left) == 1


def test_a_deadline_that_is_not_far() -> None:
    talk = running("a")
    assert 0 < next_deadline(talk.state, talk.now, until_empty=False) - talk.now <= 1.0
    talk.hears(Gone("a", KILLED))
    assert next_deadline(talk.state, talk.now, until_empty=False) >= talk.now


@pytest.mark.parametrize(
    "word", [link.DRAIN, link.PRESS, link.QUIT, link.RELOAD, link.MORE, link.FEWER, link.LOGS]
)
def test_every_word_is_an_event(word: bytes) -> None:
    ours, theirs = link.pair()
    end = link.Link(theirs, 1, 0)
    link.send(ours, link.GO + word)
    assert end.prepared()
    assert len(end.events()) == 1
    assert end.events() == []
    assert not end.is_cut
