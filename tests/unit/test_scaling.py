"""Scaling: enough workers in time, no more than needed, and no swinging, whatever the load does."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rsq.ipc.cells import Why
from rsq.supervisor.meter import Meter
from rsq.supervisor.scaling import SPARE, Memory, Outlook, Past, Scale, Wish, decide, enough

SCALE = Scale(least=2, most=16, target_s=30.0, step=4, cooldown_s=10.0)
MIB = 1 << 20


def ask(
    outlook: Outlook | None,
    *,
    scale: Scale = SCALE,
    past: Past | None = None,
    busy: float = 4.0,
    rate: float = 1.0,
    workers: int = 4,
    now: float = 1000.0,
) -> tuple[Past, Wish | None]:
    return decide(scale, past or Past(), outlook, busy, rate, workers, now)


def wish(outlook: Outlook | None, **more: object) -> Wish | None:
    return ask(outlook, **more)[1]  # type: ignore[arg-type]


def calm(scale: Scale = SCALE, *, need: int = 2, now: float = 1000.0) -> Past:
    """The past of a pool in which so many have been enough for long."""
    begin = now - 2 * max(scale.target_s, scale.cooldown_s)
    return Past(since=begin, needs=((now - scale.target_s + 0.1, need),))


# One decision


def test_a_backlog_that_is_cleared_in_time_changes_nothing() -> None:
    assert wish(Outlook(120)) is None


def test_a_backlog_that_takes_too_long_is_given_the_workers_that_clear_it_in_time() -> None:
    found = wish(Outlook(200))
    assert found is not None
    assert (found.workers, found.why) == (enough(200, 30, 1.0), Why.BACKLOG) == (7, Why.BACKLOG)
    assert found.words == "200 entries wait and would take 4 workers 50 s, more than 30 s"


@pytest.mark.parametrize("rate", [5e-324, 1e-300, 1e-12])
def test_a_worker_that_hardly_moves_is_still_a_number(rate: float) -> None:
    assert 1 <= enough(120, 30, rate) <= 10**9
    assert enough(0, 30, rate) == 0


def test_one_change_adds_no_more_than_a_step_and_never_passes_the_most() -> None:
    found = wish(Outlook(10**6))
    assert found is not None
    assert found.workers == 8
    found = wish(Outlook(10**6), workers=14, busy=14.0)
    assert found is not None
    assert found.workers == 16


def test_at_the_most_it_says_why_it_does_not_grow() -> None:
    past, found = ask(Outlook(10**6), workers=16, busy=16.0)
    assert found is None
    assert past.held.endswith("more than 30 s; as many as there may be")


def test_nothing_is_changed_before_the_cool_down_is_over() -> None:
    past = Past(changed=995.0)
    assert wish(Outlook(10**6), past=past) is None
    assert wish(Outlook(10**6), past=past, now=1005.0) is not None


def test_a_pool_whose_workers_are_not_at_work_gets_no_more_of_them() -> None:
    """They boot, or wait for Redis, or crash: more of them would do the same."""
    assert wish(Outlook(10**6), busy=1.0) is None


def test_nothing_is_known() -> None:
    past, found = ask(None, past=calm(need=2), busy=0.0)
    assert found is None
    assert (past.since, past.needs) == (None, ())
    assert wish(Outlook(50), rate=0.0, past=calm(need=2), busy=0.0) is None


def test_an_idle_pool_shrinks_by_a_step() -> None:
    found = wish(Outlook(0), past=calm(), busy=0.0, workers=9)
    assert found == Wish(5, Why.IDLE, "2 were enough for 30 s")


def test_it_shrinks_to_what_was_needed_at_the_worst_moment_of_the_target_s_time() -> None:
    found = wish(Outlook(0), past=calm(need=7), busy=0.0, workers=9)
    assert found is not None
    assert found.workers == 7


def test_it_does_not_shrink_before_it_has_looked_for_long_enough() -> None:
    assert wish(Outlook(0), past=Past(since=980.0), busy=0.0) is None
    assert wish(Outlook(0), past=Past(since=970.0), busy=0.0) is not None


def test_workers_that_are_left_have_time_to_spare() -> None:
    found = wish(Outlook(0), past=calm(), busy=3.3, workers=8)
    assert found is not None
    assert found.workers == math.ceil(3.3 / SPARE) == 5


def test_where_the_lag_is_not_known_it_never_shrinks() -> None:
    assert wish(Outlook(0, exact=False), past=calm(), busy=0.0) is None


def test_where_the_lag_is_not_known_the_age_of_the_oldest_tells() -> None:
    """At least so many, and the oldest waits longer than the target: they are not cleared in time."""
    assert wish(Outlook(50, exact=False, oldest_s=29.0)) is None
    found = wish(Outlook(50, exact=False, oldest_s=31.0))
    assert found == Wish(5, Why.BACKLOG, "at least 50 entries wait, the oldest for 31 s, more than 30 s")


def test_where_the_lag_is_known_ids_are_not_taken_for_times() -> None:
    assert wish(Outlook(50, oldest_s=10**9)) is None


def test_how_many_were_too_few_is_remembered_while_the_load_lasts() -> None:
    """Handlers that get slower together: the busy ones look as if fewer would do."""
    past, _ = ask(Outlook(200), busy=3.0)
    assert past.tight == (4, 3.0)
    past, _ = ask(Outlook(0), past=replace(past, changed=0.0), busy=2.5, workers=6)
    assert past.needs[-1][1] == 5
    past, _ = ask(Outlook(0), past=past, busy=2.3, workers=6)
    assert past.tight is None
    assert past.needs[-1][1] == 3


# Memory


LIMITED = replace(SCALE, max_memory=1000 * MIB)


def test_it_grows_no_further_than_memory_allows() -> None:
    found = wish(Outlook(10**6, memory=Memory(700 * MIB, 80 * MIB)), scale=LIMITED)
    assert found is not None
    assert found.workers == 6
    past, found = ask(Outlook(10**6, memory=Memory(850 * MIB, 80 * MIB)), scale=LIMITED)
    assert found is None
    assert past.held.endswith("; there is no memory for one more")


def test_too_much_memory_is_given_back_even_with_a_backlog() -> None:
    found = wish(Outlook(10**6, memory=Memory(1100 * MIB, 80 * MIB)), scale=LIMITED)
    assert found == Wish(2, Why.MEMORY, "they use 1100 MiB, more than 1000 MiB")
    assert wish(Outlook(10**6, memory=Memory(1100 * MIB, 80 * MIB)), scale=LIMITED, workers=2) is None


def test_without_a_limit_memory_does_not_matter() -> None:
    found = wish(Outlook(10**6, memory=Memory(10**15, 10**14)))
    assert found is not None
    assert found.workers == 8


# The meter


def _metered(rows: Iterable[tuple[float, int, int]], meter: Meter | None = None) -> Meter:
    found = meter or Meter()
    for now, finished, busy in rows:
        found = found.look(now, {0: finished}, busy)
    return found


def test_a_rate_is_entries_per_second_of_work() -> None:
    meter = _metered((100.0 + n, 50 * n, 2) for n in range(60))
    assert meter.rate == pytest.approx(25.0, rel=0.05)
    assert meter.busy == pytest.approx(2.0, abs=0.01)


def test_the_rate_of_an_idle_pool_is_that_of_its_work() -> None:
    """Half of the time nobody works: a busy worker is as fast as before."""
    meter = _metered((100.0 + n, 10 * (n - n // 2), n % 2) for n in range(200))
    assert meter.rate == pytest.approx(10.0, rel=0.1)
    assert meter.busy == pytest.approx(0.5, abs=0.15)


def test_a_rate_follows_a_handler_that_changes() -> None:
    meter = _metered((100.0 + n, 100 * n, 1) for n in range(100))
    meter = _metered(((200.0 + n, 10_000 + 10 * n, 1) for n in range(100)), meter)
    assert meter.rate == pytest.approx(10.0, rel=0.1)


def test_before_anything_is_finished_the_rate_is_the_most_that_it_can_be() -> None:
    assert Meter().rate == 0.0
    assert _metered((100.0 + n, 0, 0) for n in range(10)).rate == 0.0
    assert _metered((100.0 + n, 0, 4) for n in range(11)).rate == pytest.approx(1 / 40)


def test_few_finished_entries_make_a_rate_too() -> None:
    """Handlers of a minute: one look sees nothing, ten minutes do."""
    meter = _metered((100.0 + n, 4 * (n // 60), 4) for n in range(601))
    assert meter.rate == pytest.approx(1 / 60, rel=0.2)


def _quick() -> Meter:
    """A minute of entries of 10 ms, then nothing to do for ten seconds."""
    meter = _metered((100.0 + n, 100 * n, 1) for n in range(60))
    return _metered(((160.0 + n, 5900, 0) for n in range(10)), meter)


def _slow(meter: Meter, seconds: int, together: int = 1) -> Meter:
    """A call that runs for so long and goes on."""
    for n in range(seconds):
        meter = meter.look(170.0 + n, {0: 5900}, 1, running=[(n, together)])
    return meter


def test_what_runs_for_longer_than_known_is_evidence() -> None:
    """Else quick entries of before hide slow ones until ten of those have finished."""
    assert _quick().rate == pytest.approx(100.0, rel=0.05)
    rates = [_slow(_quick(), seconds).rate for seconds in range(2, 20)]
    assert rates[0] < 5
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(3 / 19, rel=0.1)


def test_one_call_of_many_entries_is_no_evidence_before_its_time() -> None:
    """A batch of 1,000 takes ten seconds at the rate of before."""
    unseen = _metered(((170.0 + n, 5900, 1) for n in range(9)), _quick())
    assert _slow(_quick(), 9, together=1000).rate == unseen.rate
    assert _slow(_quick(), 60, together=1000).rate < 20


def test_one_slow_entry_among_many_quick_ones_changes_little() -> None:
    """Four workers, of which one runs a single entry for ten seconds."""
    meter = Meter()
    for n in range(60):
        age = n - 45.0 if 45 <= n < 55 else 0.0
        meter = meter.look(100.0 + n, {0: 30 * n}, 4, running=[(0.05, 1)] * 3 + [(age, 1)])
    assert meter.rate == pytest.approx(7.5, rel=0.05)
    late = [(0.05, 1)] * 3 + [(10.0, 1)]
    assert meter.look(160.0, {0: 1800}, 4, running=late).rate > 5


def test_a_gap_counts_for_nothing() -> None:
    meter = _metered([(100.0, 0, 1), (101.0, 10, 1), (500.0, 10_000, 1), (501.0, 10_010, 1)])
    assert meter.rate == pytest.approx(10.0)


def test_a_slot_that_opens_again_brings_no_work_from_before() -> None:
    meter = Meter().look(100.0, {0: 5}, 1).look(101.0, {0: 15, 1: 10_000}, 1).look(102.0, {0: 25}, 1)
    assert meter.rate == pytest.approx(10.0)
    meter = meter.look(103.0, {0: 35, 1: 10_010}, 1)
    assert meter.rate == pytest.approx(40 / 3)


# Any load


@dataclass
class Pool:
    """A pool and its queue, second by second: so many entries come, workers take each so long.

    With `drag` all get slower the more there are, as where they wait for one database. `hidden` is the part
    of their time in which they do not look busy and are, as when the server is far away.
    """

    scale: Scale
    service_s: float
    drag: float = 0.0
    hidden: float = 0.0
    workers: int = 0
    queue: float = 0.0
    memory_mib: float = 0.0
    now: float = 100.0
    past: Past = field(default_factory=Past)
    meter: Meter = field(default_factory=Meter)
    finished: float = 0.0
    changes: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.workers = self.workers or self.scale.least
        self.meter = self.meter.look(self.now, {0: 0}, 0)

    def second(self, arrivals: float, *, blind: bool = False, exact: bool = True) -> None:
        each_s = self.service_s * (1 + self.drag * (self.workers - 1))
        work = min(self.queue + arrivals, self.workers / each_s)
        self.queue = max(0.0, self.queue + arrivals - work)
        self.finished += work
        self.now += 1.0
        self.meter = self.meter.look(self.now, {0: int(self.finished)}, work * each_s * (1 - self.hidden))
        memory = None
        if self.memory_mib:
            each = int(self.memory_mib * MIB)
            memory = Memory(each * self.workers, each)
        age = self.queue * each_s / self.workers
        outlook = None if blind else Outlook(self.queue, exact, 0.0 if exact else age, memory)
        before = self.workers
        self.past, found = decide(
            self.scale, self.past, outlook, self.meter.busy, self.meter.rate, self.workers, self.now
        )
        if found is not None:
            self.check(found, before, outlook)
            self.workers = found.workers
            self.changes.append((self.now, found.workers))

    def check(self, found: Wish, before: int, outlook: Outlook | None) -> None:
        scale = self.scale
        assert outlook is not None, "changed blindly"
        assert found.workers != before
        assert scale.least <= found.workers <= scale.most
        assert abs(found.workers - before) <= scale.step
        if self.changes:
            assert self.now - self.changes[-1][0] >= scale.cooldown_s
        if found.workers < before and found.why is not Why.MEMORY:
            assert outlook.exact
            takes_s = outlook.backlog / (found.workers * self.meter.rate) if outlook.backlog else 0.0
            assert takes_s <= scale.target_s * 1.0001, "it shrank and the backlog takes too long"
        if scale.max_memory and outlook.memory and found.workers > before:
            assert found.workers * outlook.memory.each <= scale.max_memory


SCALES = st.builds(
    lambda least, more, target, step, cooldown, memory: Scale(
        least, least + more, target, step, cooldown, memory * MIB
    ),
    st.integers(1, 6),
    st.integers(1, 30),
    st.sampled_from([1.0, 10.0, 30.0, 120.0]),
    st.integers(1, 8),
    st.sampled_from([0.0, 5.0, 10.0, 60.0]),
    st.sampled_from([0, 0, 500]),
)
LOADS = st.lists(
    st.tuples(
        st.integers(1, 120),
        st.sampled_from([0.0, 0.3, 1.0, 7.0, 40.0, 500.0, 10_000.0]),
        st.sampled_from(["known", "known", "known", "blind", "at least"]),
    ),
    max_size=10,
)
SERVICE = st.sampled_from([0.001, 0.05, 0.5, 3.0, 60.0])


@given(SCALES, SERVICE, st.sampled_from([0.0, 0.05]), LOADS, st.sampled_from([10.0, 40.0, 90.0]))
@settings(max_examples=300, deadline=None)
def test_bounds_step_cool_down_and_target_hold_for_any_sequence_of_loads(
    scale: Scale, service_s: float, drag: float, loads: list[tuple[int, float, str]], memory_mib: float
) -> None:
    pool = Pool(scale, service_s, drag, memory_mib=memory_mib if scale.max_memory else 0.0)
    for seconds, arrivals, how in loads:
        for _ in range(seconds):
            pool.second(arrivals, blind=how == "blind", exact=how == "known")


@given(
    SCALES,
    SERVICE,
    st.sampled_from([0.0, 0.02]),
    st.sampled_from([0.0, 0.0, 0.3]),
    LOADS,
    st.floats(0.0, 0.9) | st.floats(1.0, 1.5),
    st.integers(0, 100),
)
@pytest.mark.timeout(600)  # each is an hour of a pool, second by second
@settings(max_examples=80, deadline=None)
@example(Scale(1, 16), 0.5, 0.0, 0.0, [], 0.625, 0)
@example(Scale(1, 16), 0.5, 0.0, 0.3, [], 0.62, 60)
@example(Scale(1, 25, 120.0, 1, 0.0, 0), 0.05, 0.02, 0.0, [(5, 1e4, "known"), (63, 500.0, "known")], 0.75, 2)
@example(Scale(2, 16, step=1, cooldown_s=60.0), 3.0, 0.02, 0.0, [(60, 500.0, "known")], 0.5, 0)
def test_a_constant_load_reaches_a_size_and_stays_there(
    scale: Scale,
    service_s: float,
    drag: float,
    hidden: float,
    loads: list[tuple[int, float, str]],
    share: float,
    queued_s: int,
) -> None:
    """Whatever was before; `share` of what the largest pool can do comes in all the time."""
    scale = replace(scale, max_memory=0)
    pool = Pool(scale, service_s, drag, hidden)
    for seconds, arrivals, how in loads:
        for _ in range(seconds):
            pool.second(min(arrivals, 3 * scale.most / service_s), exact=how == "known")
    most = scale.most / (service_s * (1 + drag * (scale.most - 1)))
    pool.queue = most * queued_s
    for _ in range(2500):
        pool.second(share * most)
    steady, size = len(pool.changes), pool.workers
    for _ in range(1500):
        pool.second(share * most)
    # With a load that is a hair above what they can do, the backlog takes an hour to be too long.
    later = [size, *(workers for _, workers in pool.changes[steady:])]
    assert later == sorted(later), f"it swings: {pool.changes[-8:]}"
    if share <= 0.9:
        each_s = service_s * (1 + drag * (pool.workers - 1))
        assert pool.queue * each_s / pool.workers <= 1.5 * scale.target_s / (1 - hidden) + 2 * service_s
    if share == 0.0:
        assert pool.workers == scale.least
