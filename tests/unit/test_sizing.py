"""The size of the pool as the master decides it: by hand, by order, by what waits."""

from __future__ import annotations

from typing import Any

from rsq.ipc.cells import Why
from rsq.ipc.exitcodes import EXITED, OK
from rsq.supervisor.policy import begin, step
from rsq.supervisor.scaling import Outlook, Scale
from rsq.supervisor.states import (
    Action,
    Drain,
    Event,
    Exited,
    Fork,
    Ordered,
    Phase,
    Resized,
    Rules,
    Say,
    Sight,
    Signalled,
    Stage,
)

SCALE = Scale(least=2, most=8, target_s=10.0, step=3, cooldown_s=5.0)
TTIN, TTOU = Signalled("SIGTTIN"), Signalled("SIGTTOU")


class Talk:
    """A pool whose workers boot at once, and handle ten entries a second each while there are any."""

    def __init__(self, scale: Scale | None = SCALE, wanted: int | None = None, workers: int = 2) -> None:
        self.rules = Rules(workers=workers, scale=scale, capacity=20)
        self.state = begin(self.rules, wanted=wanted)
        self.now, self.trust_s = 100.0, 60.0
        self.sights: dict[int, Sight] = {}
        self.said: list[str] = []
        self.resized: list[tuple[int, Why]] = []
        self.outlook: Outlook | None = Outlook(0)
        self.busy = True
        self.hears()
        self.hears()
        assert self.state.stage is Stage.RUNNING

    def hears(self, *events: Event, after: float = 0.1) -> list[Action]:
        self.now += after
        self.state, actions = step(
            self.state, events, self.sights, self.now, self.rules, lambda: 0.5, self.trust_s, self.outlook
        )
        for action in actions:
            match action:
                case Fork(slot):
                    self.sights[slot] = Sight(booted=True, busy=self.busy)
                case Say(_, words):
                    self.said.append(words)
                case Resized(wanted, why):
                    self.resized.append((wanted, why))
        return actions

    def work(self, seconds: float, backlog: float | None) -> list[Action]:
        """Let time pass with so much waiting."""
        self.outlook = None if backlog is None else Outlook(backlog)
        actions: list[Action] = []
        for _ in range(int(seconds)):
            for slot, sight in self.sights.items():
                new = 10 if self.busy else 0
                self.sights[slot] = Sight(booted=True, busy=self.busy, finished=sight.finished + new)
            gone = [Exited(a.slot, EXITED + OK) for a in actions if isinstance(a, Drain)]
            actions = self.hears(*gone, after=1.0)
        return actions

    @property
    def wanted(self) -> int:
        return self.state.wanted


def test_a_backlog_makes_the_pool_grow_step_by_step_and_no_further_than_its_most() -> None:
    talk = Talk()
    talk.work(20, 10_000)
    assert talk.resized == [(5, Why.BACKLOG), (8, Why.BACKLOG)]
    assert {slot for slot, seat in talk.state.seats.items() if seat.alive} == set(range(8))
    assert talk.said[1].startswith("workers: 2 to 5, 10000 entries wait and would take 2 workers ")
    assert any("no more workers than 8" in words for words in talk.said)
    talk.work(30, 10_000)
    assert sum("no more workers" in words for words in talk.said) == 1, "said once"


def test_an_idle_pool_shrinks_to_its_least() -> None:
    talk = Talk(wanted=7)
    talk.busy = False
    talk.work(40, 0)
    assert talk.resized == [(4, Why.IDLE), (2, Why.IDLE)]
    assert [seat.phase for seat in talk.state.seats.values()].count(Phase.CLOSED) == 5


def test_a_closed_slot_is_opened_again_by_the_next_backlog() -> None:
    talk = Talk(wanted=4)
    talk.busy = False
    talk.work(30, 0)
    assert talk.wanted == 2
    talk.busy = True
    talk.work(20, 10_000)
    assert talk.wanted == 8
    assert all(talk.state.seats[slot].alive for slot in range(8))


def test_without_a_lease_or_a_known_backlog_nothing_changes() -> None:
    talk = Talk(wanted=5)
    talk.busy = False
    talk.work(60, None)
    talk.trust_s = 0.0
    talk.work(60, 0)
    assert talk.resized == []
    talk.trust_s = 60.0
    talk.work(9, 0)
    assert talk.resized == [], "it has not looked for long enough"
    talk.work(9, 0)
    assert talk.wanted == 2


def test_a_number_set_by_hand_holds_until_auto() -> None:
    talk = Talk()
    talk.hears(TTIN)
    assert (talk.wanted, talk.state.by_hand) == (3, True)
    talk.work(30, 10_000)
    assert talk.wanted == 3
    talk.hears(TTOU, TTOU)
    assert talk.wanted == 1
    talk.work(30, 10_000)
    assert talk.wanted == 1
    talk.hears(Ordered(0))
    assert (talk.wanted, talk.state.by_hand) == (2, False)
    talk.work(20, 10_000)
    assert talk.wanted == 8
    assert sum("until `rsq scale auto`" in words for words in talk.said) == 1


def test_an_order_may_leave_the_range_and_auto_comes_back_into_it() -> None:
    talk = Talk()
    actions = talk.hears(Ordered(12))
    assert Resized(12, Why.HAND) in actions
    talk.hears()
    assert sum(seat.alive for seat in talk.state.seats.values()) == 12
    actions = talk.hears(Ordered(0))
    assert Resized(8, Why.HAND) in actions
    assert sum(isinstance(action, Drain) for action in actions) == 4


def test_an_order_for_more_than_there_is_room_for_gets_all_the_room() -> None:
    talk = Talk()
    talk.hears(Ordered(500))
    assert talk.wanted == 20
    assert "no room for more than 20 workers: 500 were ordered" in talk.said


def test_a_pool_of_a_fixed_size_takes_orders_too() -> None:
    talk = Talk(scale=None, workers=3)
    talk.hears(Ordered(5))
    assert (talk.wanted, talk.state.by_hand) == (5, True)
    talk.work(30, 0)
    assert talk.wanted == 5
    talk.hears(Ordered(0))
    assert (talk.wanted, talk.state.by_hand) == (3, False)
    assert talk.said[-1] == "workers: 5 to 3, by order"


def test_the_rate_of_a_pool_of_a_fixed_size_is_known_as_well() -> None:
    talk = Talk(scale=None, workers=3)
    talk.work(30, None)
    assert 9 < talk.state.meter.rate < 11
    assert 2.9 < talk.state.meter.busy <= 3.0


def test_a_pool_does_not_scale_while_it_stops() -> None:
    talk = Talk()
    talk.hears(Signalled("SIGTERM"))
    before: Any = talk.state.wanted
    talk.work(30, 10_000)
    assert talk.wanted == before
