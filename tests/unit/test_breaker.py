"""The circuit breaker as a value: when it opens, who may try, when it closes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rsq.worker.breaker import (
    FAILURES_MAX,
    Asked,
    Breaker,
    Ended,
    Event,
    Failed,
    Forced,
    Limits,
    Phase,
    decode,
    due_ms,
    runs,
    step,
)

LIMITS = Limits(failures=3, window_ms=1000, reset_ms=500, successes=2)


def after(*events: tuple[int, Event], limits: Limits = LIMITS) -> Breaker:
    """The breaker after events at these times."""
    breaker = Breaker()
    for now, event in events:
        breaker = step(breaker, limits, event, now)
    return breaker


def opened() -> Breaker:
    return after((0, Failed(3)))


def probing() -> Breaker:
    return step(opened(), LIMITS, Asked("a", 100), 500)


# Opening


def test_it_opens_after_so_many_failures_within_the_window() -> None:
    assert after((0, Failed()), (500, Failed())).phase is Phase.CLOSED
    found = after((0, Failed()), (500, Failed()), (999, Failed()))
    assert (found.phase, found.until_ms, found.opened) == (Phase.OPEN, 1499, 1)


def test_failures_further_apart_do_not_open_it() -> None:
    assert after(*((n * 500, Failed()) for n in range(100))).phase is Phase.CLOSED


def test_many_failures_at_once_count_each() -> None:
    assert after((0, Failed(2))).phase is Phase.CLOSED
    assert after((0, Failed(10**9))).phase is Phase.OPEN


def test_what_fails_while_it_is_open_does_not_keep_it_open() -> None:
    """Those were started before."""
    assert step(opened(), LIMITS, Failed(100), 400) == opened()
    assert step(probing(), LIMITS, Failed(100), 510) == probing()


# Probing


def test_nobody_probes_before_the_reset() -> None:
    assert step(opened(), LIMITS, Asked("a", 100), 499) == opened()
    assert due_ms(opened()) == 500


def test_one_probe_at_a_time() -> None:
    assert probing().phase is Phase.HALF_OPEN
    assert runs(probing(), "a", 550)
    second = step(probing(), LIMITS, Asked("b", 100), 550)
    assert second == probing()
    assert not runs(second, "b", 550)


def test_a_probe_that_is_lost_makes_room_for_the_next() -> None:
    found = step(probing(), LIMITS, Asked("b", 100), 600)
    assert runs(found, "b", 600)
    assert not runs(found, "a", 600)
    assert step(found, LIMITS, Ended("a", well=True), 610) == found, "nobody waits for it any more"


def test_a_probe_may_ask_for_more_time() -> None:
    found = step(probing(), LIMITS, Asked("a", 1000), 590)
    assert runs(found, "a", 1500)


def test_probes_that_go_well_close_it() -> None:
    found = step(probing(), LIMITS, Ended("a", well=True), 510)
    assert (found.phase, found.good, found.probe) == (Phase.HALF_OPEN, 1, None)
    found = step(step(found, LIMITS, Asked("b", 100), 510), LIMITS, Ended("b", well=True), 520)
    assert found == Breaker(opened=1)


def test_a_probe_that_fails_opens_it_again() -> None:
    found = step(probing(), LIMITS, Ended("a", well=True), 510)
    found = step(step(found, LIMITS, Asked("b", 100), 510), LIMITS, Ended("b", well=False), 520)
    assert found == Breaker(Phase.OPEN, until_ms=1020, opened=2)


def test_a_probe_that_was_not_run_says_nothing() -> None:
    found = step(probing(), LIMITS, Ended("a", well=None), 510)
    assert (found.phase, found.good, due_ms(found)) == (Phase.HALF_OPEN, 0, 0)


# By hand


def test_opened_by_hand_it_stays_so_until_it_is_closed_by_hand() -> None:
    found = after((0, Forced(Phase.OPEN)))
    assert due_ms(found) is None
    assert step(found, LIMITS, Asked("a", 100), 10**12) == found
    assert step(found, LIMITS, Forced(Phase.CLOSED), 10).phase is Phase.CLOSED


def test_closed_by_hand_it_forgets_the_probe_that_runs() -> None:
    found = step(probing(), LIMITS, Forced(Phase.CLOSED), 510)
    assert step(found, LIMITS, Ended("a", well=False), 520) == found == Breaker(opened=1)


def test_half_open_is_nothing_to_order() -> None:
    with pytest.raises(ValueError, match="by itself"):
        step(Breaker(), LIMITS, Forced(Phase.HALF_OPEN), 0)


@pytest.mark.parametrize(
    "values",
    [{"failures": 0}, {"failures": FAILURES_MAX + 1}, {"window_ms": 0}, {"reset_ms": 0}, {"successes": 0}],
)
def test_limits_that_make_no_sense(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a breaker"):
        Limits(**values)


# Anything


@given(st.binary() | st.text().map(str.encode) | st.recursive(
    st.none() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["phase", "failed", "until", "good", "probe", "opened"]), inner
    ),
).map(lambda value: repr(value).replace("'", '"').replace("None", "null").encode()))  # fmt: skip
def test_whatever_stands_in_redis_is_a_breaker(raw: bytes) -> None:
    found = decode(raw)
    assert decode(found.encode()) == found
    step(found, LIMITS, Asked("a", 100), 10**13)


class Fleet(RuleBasedStateMachine):
    """Anybody does anything at any time, and the world keeps a record of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000
        self.breaker = Breaker()
        self.failures: list[int] = []  # while it was closed
        self.opened_at = -(10**9)
        self.by_hand = False
        self.waited_for: dict[str, int] = {}  # probe -> until when
        self.names = 0

    def step(self, event: Event) -> Breaker:
        before = self.breaker
        self.breaker = step(before, LIMITS, event, self.now)
        assert decode(self.breaker.encode()) == self.breaker
        if self.breaker.phase is Phase.OPEN and before.phase is not Phase.OPEN:
            self.opened_at = self.now
        if self.breaker.phase is not Phase.CLOSED or before.phase is not Phase.CLOSED:
            self.failures = []
        return before

    @rule(ms=st.sampled_from([0, 1, 99, 100, 499, 500, 501, 1000, 5000]))
    def time_passes(self, ms: int) -> None:
        self.now += ms

    @rule(count=st.integers(1, 4))
    def handlers_fail(self, count: int) -> None:
        before = self.breaker.phase
        self.failures += [self.now] * count if before is Phase.CLOSED else []
        recent = [at for at in self.failures if self.now - at < LIMITS.window_ms]
        self.step(Failed(count))
        if before is Phase.CLOSED:
            assert (self.breaker.phase is Phase.OPEN) == (len(recent) >= LIMITS.failures)
        else:
            assert self.breaker.phase is before

    @rule(patience=st.sampled_from([50, 100, 1000]))
    def a_probe_is_asked_for(self, patience: int) -> None:
        self.names += 1
        who = f"p{self.names}"
        others = [name for name, until in self.waited_for.items() if until > self.now]
        before = self.step(Asked(who, patience))
        if runs(self.breaker, who, self.now):
            assert not others, "two probes at a time"
            assert not self.by_hand
            assert before.phase is not Phase.CLOSED
            assert self.now - self.opened_at >= LIMITS.reset_ms
            self.waited_for = {who: self.now + patience}

    @rule(well=st.sampled_from([True, False, None]), late=st.booleans())
    def a_probe_ends(self, well: bool | None, late: bool) -> None:
        who = f"p{max(0, self.names - 1)}" if late else next(iter(self.waited_for), "nobody")
        before = self.step(Ended(who, well))
        if before.probe is None or before.probe.who != who:
            assert self.breaker == before
        elif well is False:
            assert self.breaker.phase is Phase.OPEN
        elif well:
            closed = before.good + 1 >= LIMITS.successes
            assert self.breaker.phase is (Phase.CLOSED if closed else Phase.HALF_OPEN)
        self.waited_for.pop(who, None)

    @rule(phase=st.sampled_from([Phase.OPEN, Phase.CLOSED]))
    def an_operator_decides(self, phase: Phase) -> None:
        self.step(Forced(phase))
        assert self.breaker.phase is phase
        self.by_hand, self.waited_for, self.failures = phase is Phase.OPEN, {}, []

    @invariant()
    def it_is_in_one_piece(self) -> None:
        found = self.breaker
        assert len(found.failed_ms) < LIMITS.failures
        assert found.good < LIMITS.successes
        if found.phase is not Phase.HALF_OPEN:
            assert (found.probe, found.good) == (None, 0)
        if found.phase is not Phase.CLOSED:
            assert found.failed_ms == ()
        if found.phase is not Phase.OPEN:
            assert found.until_ms is None


Fleet.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
test_whatever_a_fleet_does = Fleet.TestCase
