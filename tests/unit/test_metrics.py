"""The metrics: exact at every moment, readable whatever the bytes are, and all of them documented."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from support_pool import accounted
from support_shared import child, shared, stay

from rsq.ipc.breakers import Row, Shown, State
from rsq.ipc.cells import CHARGED, D, DeskState, P, PoolState, S, SeatState, Swept
from rsq.ipc.exitcodes import Cause
from rsq.ipc.journal import Journal, Kind, Outcome
from rsq.ipc.ledger import DEAD, EVENTS_MAX, C, Events
from rsq.ipc.segment import _CELLS_AT, HEADER_SIZE, Identity, Segment
from rsq.ipc.slot import _PARTS, SLOT_SIZE
from rsq.supervisor.gallery import One
from rsq.supervisor.metrics import REASONS, Metrics
from rsq.supervisor.reading import counted, label, snapshot
from rsq.supervisor.view import SlotView

WHO = Identity("orders", "mailer", "web-1")
DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
NOW, EPOCH = 10_000.0, 1_700_000_000.0


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    """A running pool of two slots, with this process as master and as worker."""
    made = Segment.create(tmp_path, WHO, 2)
    for number in range(2):
        made.open_slot(number)
    _run(made)
    yield made
    made.close()


def _run(segment: Segment) -> None:
    pool = segment.pool
    pool.view[P.MASTER_PID], pool.view[P.STATE], pool.view[P.WORKERS] = os.getpid(), PoolState.RUNNING, 2
    pool.real[P.STARTED], pool.real[P.HEARTBEAT] = time.time(), time.monotonic()
    for number in range(2):
        slot = segment.slot(number)
        slot.seat.view[S.PID], slot.seat.view[S.STATE] = os.getpid(), SeatState.RUNNING
        slot.seat.real[S.SPAWNED] = time.monotonic()
        slot.desk.view[D.PID], slot.desk.view[D.STATE] = os.getpid(), DeskState.IDLE
        slot.desk.real[D.BOOTED] = time.monotonic()


def _counters(segment: Segment, slot: int = 0) -> dict[str, int]:
    return {name: count for name, count in snapshot(segment).slots[slot].counters.items() if count}


def _exposed(segment: Segment) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return all samples by name and labels, having read both formats."""
    metrics = Metrics(One(segment))
    text = metrics.page().decode()
    strict = list(parse_openmetrics(metrics.page(openmetrics=True).decode()))  # type: ignore[no-untyped-call]
    assert strict
    samples = [sample for family in parse(text) for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): sample.value for sample in samples}
    assert len(found) == len(samples), "a series is there twice: Prometheus refuses the whole scrape"
    return found


def _value(samples: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """Return the sum over all series with these labels."""
    found = [v for (n, have), v in samples.items() if n == name and labels.items() <= dict(have).items()]
    assert found, f"no {name} with {labels}"
    return sum(found)


# Exactness


def test_finished_entries_of_a_long_batch_are_counted_before_the_worker_does(segment: Segment) -> None:
    slot = segment.slot(0)
    slot.ledger.sums.counters[C.HANDLED] = slot.ledger.sums.counters[C.READ] = 100
    slot.ledger.commit(0, 0)
    slot.journal.open([b"1-%d" % n for n in range(5)], [1, 1, 2, 1, 1])
    assert _counters(segment) == {"read": 100, "handled": 100}
    slot.journal.marks[0] = 1.0
    assert _counters(segment) == {"read": 100, "handled": 100}, "the first one runs"
    slot.journal.marks[1] = 2.0
    assert _counters(segment) == {"read": 101, "handled": 101}
    slot.journal.outcomes[1] = Outcome.WAITING
    assert _counters(segment) == {"read": 101, "handled": 101}, "its outcome alone does not finish it"
    slot.journal.marks[2] = 3.0
    assert _counters(segment) == {"read": 102, "handled": 101, "failed": 1, "retried": 1}
    slot.journal.outcomes[2] = Outcome.LOST
    slot.journal.marks[3] = 4.0
    assert _counters(segment) == {"read": 102, "handled": 101, "failed": 1, "retried": 1, "lost": 1}
    slot.journal.marks[4] = slot.journal.marks[5] = 5.0
    counted = {"read": 104, "handled": 103, "failed": 1, "retried": 1, "lost": 1}
    assert _counters(segment) == counted
    for name, count in counted.items():
        slot.ledger.sums.counters[C[name.upper()]] = count
    slot.ledger.commit(1, 5)
    assert _counters(segment) == counted, "the worker's own count of the same batch changes nothing"


def test_a_dead_letter_counts_once_it_is_written(segment: Segment) -> None:
    """Until then the entry is pending, and may be held back: a counter that goes down reads as a restart."""
    slot = segment.slot(0)
    outcomes = [outcome for outcome in Outcome if outcome.name.startswith("DEAD_")]
    slot.journal.open([b"1-%d" % n for n in range(len(outcomes))])
    slot.journal.outcomes[: len(outcomes)] = bytes(outcomes)
    for at in range(len(outcomes) + 1):
        slot.journal.marks[at] = 1.0
    assert _counters(segment) == {"read": len(outcomes)}
    slot.ledger.sums.counters[C.READ] = len(outcomes)
    for counter in DEAD:
        slot.ledger.sums.counters[counter] = 1
    slot.ledger.sums.counters[C.FAILED] = 3
    slot.ledger.commit(1, len(outcomes))
    samples = _exposed(segment)
    for reason in REASONS:
        assert _value(samples, "rsq_messages_dead_lettered_total", slot="0", reason=reason) == 1
    assert _value(samples, "rsq_messages_failed_total", slot="0") == 3


def test_two_batches_that_nobody_has_counted(segment: Segment) -> None:
    slot = segment.slot(0)
    for count in (3, 4):
        slot.journal.open([b"1-%d" % n for n in range(count)])
        for at in range(count + 1):
            slot.journal.marks[at] = 1.0
    assert _counters(segment) == {"read": 7, "handled": 7}
    slot.ledger.sums.counters[C.HANDLED] = 2
    slot.ledger.commit(1, 2)
    assert _counters(segment) == {"read": 5, "handled": 7}
    slot.journal.open([b"2-1"], kind=Kind.CLAIM)
    assert _counters(segment) == {"read": 4, "handled": 6}


def test_every_count_beside_a_busy_worker_is_right_at_some_moment_of_the_scrape(segment: Segment) -> None:
    """The worker says in two cells of its own what it is about to finish, and what it has finished."""
    truth = shared(16).cast("Q")

    def work(there: Callable[[], object]) -> None:
        slot, done = segment.slot(1), 0
        counters = slot.ledger.sums.counters
        ids = [b"1-%d" % n for n in range(40)]
        while True:
            number = slot.journal.open(ids)
            for at in range(len(ids) + 1):
                if at:
                    truth[0] = done + 1
                    slot.journal.outcomes[at - 1] = Outcome.WAITING if at % 3 == 0 else Outcome.DONE
                slot.journal.marks[at] = 1.0
                if at:
                    truth[1] = done = done + 1
                if at and at % 16 == 0:
                    _count(counters, at - 15, at)
                    slot.ledger.commit(number, at)
            _count(counters, 33, 40)
            slot.ledger.commit(number, 40)
            if number == 2:
                there()

    def _count(counters: memoryview, first: int, last: int) -> None:
        for at in range(first, last + 1):
            counters[C.READ] += 1
            counters[C.FAILED if at % 3 == 0 else C.HANDLED] += 1
            counters[C.RETRIED] += at % 3 == 0

    with child(work) as worker:
        worker.ready()
        scrapes, before, deadline = 0, 0, time.monotonic() + 2
        while time.monotonic() < deadline or scrapes <= 100:
            finished = truth[1]
            counters = snapshot(segment).slots[1].counters
            started = truth[0]
            total = counters["handled"] + counters["failed"]
            assert finished <= total <= started
            assert before <= total, "a counter went down"
            assert counters["read"] == total
            assert counters["failed"] == counters["retried"] == total // 40 * 13 + total % 40 // 3
            scrapes, before = scrapes + 1, total
        worker.kill()
    counters = snapshot(segment).slots[1].counters
    assert truth[1] <= counters["handled"] + counters["failed"] <= truth[0], "and after its death"


def test_a_worker_that_is_two_batches_further_before_the_journal_is_read(segment: Segment) -> None:
    """What the ledger said is too old then: the rest of its batch has been overwritten."""
    writer = segment.slot(0)

    def batch(upto: int) -> None:
        number = writer.journal.open([b"1-%d" % n for n in range(10)])
        for at in range(upto + 1):
            writer.journal.marks[at] = 1.0
        if upto == 10:
            writer.ledger.sums.counters[C.HANDLED] += 10
            writer.ledger.commit(number, 10)

    class Slow(Journal):
        """Its reader is held up between the ledger and the journal, once."""

        held_up = False

        def finished(self, batch_number: int, upto: int) -> tuple[bytes, int] | None:
            if not self.held_up:
                self.held_up = True
                batch(10)
                batch(10)
                batch(3)
            return super().finished(batch_number, upto)

    reader = segment.slot(0)
    start = HEADER_SIZE + sum(_PARTS[:6])
    reader.journal = Slow(segment._view[start : start + _PARTS[6]])
    sums, uncounted = counted(reader)
    assert (sums.counters[C.HANDLED], uncounted) == (23, 3)


def test_counters_that_were_nonsense_do_not_stop_a_scrape(segment: Segment) -> None:
    slot = segment.slot(0)
    slot.ledger.sums.counters[C.HANDLED] = 2**64 - 1
    slot.ledger.commit(0, 0)
    slot.journal.open([b"1-1"])
    slot.journal.marks[0] = slot.journal.marks[1] = 1.0
    assert snapshot(segment).slots[0].counters["handled"] == 2**64 - 1
    assert _exposed(segment)


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -math.inf])
def test_times_that_were_nonsense_come_out_as_numbers(segment: Segment, nonsense: float) -> None:
    slot = segment.slot(0)
    slot.journal.open([b"1-1"])
    slot.journal.marks[0], slot.desk.view[D.RUNNING] = nonsense, 1
    slot.seat.view[S.STATE] = SeatState.BACKOFF
    for at in (S.SPAWNED, S.NEXT_SPAWN):
        slot.seat.real[at] = nonsense
    for cell in (P.STARTED, P.HEARTBEAT):
        segment.pool.real[cell] = nonsense
    view = snapshot(segment)
    seen = view.slots[0]
    assert seen.current is not None
    assert seen.next_spawn_s is not None
    assert all(map(math.isfinite, (view.uptime_s, seen.current.seconds, seen.next_spawn_s)))
    assert (view.alive, view.state) == (False, "gone")


# What a view says


def test_a_slot_at_work(segment: Segment) -> None:
    slot = segment.slot(1)
    number = slot.journal.open([b"1526-0", b"1526-1", b"1526-2"])
    slot.journal.marks[0], slot.journal.marks[1] = NOW - 9, NOW - 2.5
    slot.desk.view[D.RUNNING], slot.desk.view[D.STATE] = 1, DeskState.HANDLING
    slot.desk.view[D.HELD], slot.desk.view[D.WAITING], slot.desk.view[D.CONNECTED] = 3, 4, 1
    slot.rates.add(NOW - 59, 60, 30)
    slot.rates.add(NOW - 61, 1000, 1000)
    slot.seat.view[S.RESTARTS + Cause.CRASH] = 2
    segment.pool.real[P.HEARTBEAT] = NOW - 1
    segment.pool.real[P.STARTED] = EPOCH - 60
    view = snapshot(segment, NOW, EPOCH)
    seen = view.slots[1]
    assert seen.current is not None
    assert (seen.current.entry, seen.current.seconds) == ("1526-1", 2.5)
    assert seen.current.place == number << 12 | 1
    assert (seen.desk, seen.state, seen.connected, seen.booted, seen.ready) == (
        "handling",
        "running",
        *[True] * 3,
    )
    assert (seen.held, seen.waiting) == (2, 4), "the first one is finished"
    assert (seen.came, seen.went) == (1.0, 0.5)
    assert (seen.restarts["crash"], seen.restarted) == (2, 2)
    assert (view.uptime_s, view.heartbeat_s, view.workers) == (60.0, 1.0, 2)
    for stopped in (0, CHARGED + 1):  # between two entries; after the crash, while the successor charges it
        slot.desk.view[D.RUNNING] = stopped
        assert snapshot(segment, NOW, EPOCH).slots[1].current is None


def test_a_slot_between_two_processes(segment: Segment) -> None:
    seat = segment.slot(0).seat
    seat.view[S.PID], seat.view[S.STATE], seat.real[S.NEXT_SPAWN] = 0, SeatState.BACKOFF, NOW + 3
    seen = snapshot(segment, NOW, EPOCH).slots[0]
    assert (seen.pid, seen.state, seen.next_spawn_s) == (None, "backoff", 3.0)
    assert (seen.up, seen.booted, seen.ready, seen.connected) == (False,) * 4
    assert (seen.cpu_s, seen.rss) == (None, None)
    assert seen.held == 0


def test_what_the_predecessor_left_on_the_desk_is_not_the_new_processes(segment: Segment) -> None:
    desk = segment.slot(0).desk
    desk.view[D.PID], desk.view[D.CONNECTED], desk.view[D.STATE] = 1, 1, DeskState.HANDLING
    seen = snapshot(segment).slots[0]
    assert not seen.booted
    assert not seen.connected
    assert seen.desk == "none"
    assert seen.current is None


def test_a_process_of_a_former_master_is_known_by_its_lock(segment: Segment) -> None:
    def work(there: Callable[[], object]) -> None:
        assert segment.lock_slot(1) is None
        there()
        stay()

    seat = segment.slot(1).seat
    seat.view[S.PID], seat.view[S.STATE] = 0, SeatState.HELD
    assert snapshot(segment).slots[1].pid is None
    with child(work) as worker:
        worker.ready()
        seen = snapshot(segment).slots[1]
        assert (seen.pid, seen.up, seen.ready) == (worker.pid, True, False)


def test_cpu_and_memory_are_those_of_the_process(segment: Segment) -> None:
    seen = snapshot(segment).slots[0]
    mine = psutil.Process()
    assert seen.cpu_s == pytest.approx(sum(mine.cpu_times()[:2]), abs=1)
    assert seen.rss == pytest.approx(mine.memory_info().rss, rel=0.2)


def test_a_pid_that_is_used_again_is_not_our_process(segment: Segment) -> None:
    seat = segment.slot(0).seat
    seat.real[S.SPAWNED] = time.monotonic() - 1e6
    assert snapshot(segment).slots[0].rss is None
    segment.pool.real[P.STARTED] = time.time() - 1e6
    assert snapshot(segment).state == "gone"


def test_a_dead_process_that_nobody_has_buried_uses_nothing(segment: Segment) -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        segment.slot(0).seat.view[S.PID] = process.pid
        seen = snapshot(segment).slots[0]
        assert (seen.cpu_s, seen.rss) == (None, None)


@pytest.mark.parametrize(
    ("age", "pid", "state", "seen", "alive"),
    [
        (1.0, os.getpid(), PoolState.RUNNING, "running", True),
        (9.9, os.getpid(), PoolState.RELOADING, "reloading", True),
        (10.5, os.getpid(), PoolState.RUNNING, "stalled", False),
        (1.0, 2**22 + 1, PoolState.RUNNING, "gone", True),
        (1.0, 2**63, PoolState.RUNNING, "gone", True),
        (1.0, 0, PoolState.RUNNING, "gone", True),
        (1.0, os.getpid(), PoolState.GONE, "gone", True),
        (-1e6, os.getpid(), PoolState.RUNNING, "stalled", False),
        (1.0, os.getpid(), 99, "unknown", True),
    ],
    ids=["fresh", "nearly old", "old", "dead", "no pid", "never", "ended", "of another boot", "odd"],
)
def test_the_state_of_a_pool(
    segment: Segment, age: float, pid: int, state: int, seen: str, alive: bool
) -> None:
    pool = segment.pool
    now = time.monotonic()
    pool.view[P.MASTER_PID], pool.view[P.STATE], pool.real[P.HEARTBEAT] = pid, state, now - age
    view = snapshot(segment, now)
    assert (view.state, view.alive) == (seen, alive)


def test_a_pool_that_has_only_just_been_made(tmp_path: Path) -> None:
    made = Segment.create(tmp_path, WHO, 4)
    view = snapshot(made)
    assert (view.state, view.slots, view.alive, view.heartbeat_s) == ("gone", (), False, math.inf)
    assert _exposed(made)
    made.close()


def test_wanted_slots_and_used_ones_are_shown_and_no_others(segment: Segment) -> None:
    segment.pool.view[P.WORKERS] = 1
    segment.open_slot(7)
    segment.slot(7).ledger.commit(0, 0)
    assert [slot.slot for slot in snapshot(segment).slots] == [0, 1, 7], "1 was used before"
    segment.pool.view[P.WORKERS] = 4
    before = segment.path.stat().st_blocks
    view = snapshot(segment)
    assert [slot.slot for slot in view.slots] == [0, 1, 2, 3, 7]
    assert view.slots[3] == SlotView(3)
    assert segment.path.stat().st_blocks == before, "a look at an unopened slot takes a page of it"
    assert _value(_exposed(segment), "rsq_slot_booted") == 2


def test_a_reader_needs_no_more_than_permission_to_read(segment: Segment) -> None:
    for number in range(2):
        segment.slot(number).seat.view[S.PID] = 0  # CPU and memory would differ between two looks
    reader = Segment.attach(segment.path)
    assert snapshot(reader).slots == snapshot(segment).slots
    reader.close()


# Exposition


def _breaker(segment: Segment, *states: State) -> None:
    """Let a worker have registered breakers, and the keeper have spoken about them."""
    for slot in map(segment.slot, (0, 1)):
        slot.strain.register([Row(b"event-%d" % n, 5, 1, 1, 1, 1) for n in range(len(states))])
        slot.switches.set(slot.strain.registered, states)


def test_breakers_are_those_that_the_keeper_has_spoken_about(segment: Segment) -> None:
    assert snapshot(segment).breakers == {}
    due = time.monotonic() + 60
    _breaker(segment, State(), State(Shown.OPEN, due, 3), State(Shown.HALF_OPEN, 0.0, 4), State(Shown.OPEN))
    found = snapshot(segment, now=due - 60).breakers
    assert {name: (one.state, one.due_s, one.opened) for name, one in found.items()} == {
        "event-0": ("closed", math.inf, 0),
        "event-1": ("open", 60.0, 3),
        "event-2": ("half-open", 0.0, 4),
        "event-3": ("open", math.inf, 0),
    }
    samples = _exposed(segment)
    assert [_value(samples, "rsq_breaker_state", event=f"event-{n}") for n in range(4)] == [0, 1, 2, 1]
    assert _value(samples, "rsq_breaker_openings_total", event="event-2") == 4
    segment.slot(0).strain.register([Row(b'x"\n\xff', 5, 1, 1, 1, 1)])  # nothing was said about it yet
    assert snapshot(segment).breakers.keys() == found.keys()
    segment.slot(0).switches.set(segment.slot(0).strain.registered, [State()])
    assert snapshot(segment).breakers.keys() == {*found.keys(), 'x"\\n\\xff'}
    assert _exposed(segment)


def test_documentation_and_collector_name_the_same_metrics(segment: Segment) -> None:
    _breaker(segment, State())
    table = re.findall(r"^\| `(rsq_\w+)` \| (\w+) \| ([^|]*)\| (.+) \|$", DOCS.read_text(), re.MULTILINE)
    documented = {
        name: (kind, {part.strip() for part in labels.split(",") if part.strip()})
        for name, kind, labels, _ in table
    }
    assert len(documented) == len(table)
    found = {}
    for family in parse(Metrics(One(segment)).page().decode()):
        labels = {name for sample in family.samples for name in sample.labels} - {
            "le",
            "stream",
            "group",
            "instance",
        }
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = (family.type, labels)
    assert found == documented
    reasons = set(
        re.findall(r"`(\w+)`", next(words for name, *_, words in table if name == "rsq_restarts_total"))
    )
    assert reasons - {"reason"} == {cause.name.lower() for cause in Cause}
    words = next(words for name, *_, words in table if name == "rsq_messages_dead_lettered_total")
    assert set(re.findall(r"`(\w+)`", words)) - {"reason"} == set(REASONS)


def test_samples_have_the_names_and_values_of_the_segment(segment: Segment) -> None:
    slot = segment.slot(1)
    sums = slot.ledger.sums
    for counter in C:
        sums.counters[counter] = 1000 + counter
    sums.handler(0).add([0.3])
    sums.handler(slot.events.row(b"order.created")).add([0.00005, 0.2, 1000.0])
    sums.handler(Events.OTHER).add([0.2])
    sums.wait.add([2.0])
    sums.batch.add([3, 500])
    slot.ledger.commit(0, 0)
    slot.seat.view[S.RESTARTS + Cause.TIMEOUT] = 5
    slot.desk.view[D.HELD], slot.desk.view[D.WAITING] = 7, 8
    for _ in range(3):
        slot.pipe.put({"text": "x" * 200_000})
    segment.pool.view[P.GENERATION], segment.pool.view[P.RELOADS_FAILED] = 3, 1
    samples = _exposed(segment)
    one = {"stream": "orders", "group": "mailer", "instance": "web-1", "slot": "1"}
    for name, counter in {
        "rsq_messages_read_total": C.READ,
        "rsq_messages_handled_total": C.HANDLED,
        "rsq_messages_failed_total": C.FAILED,
        "rsq_messages_retried_total": C.RETRIED,
        "rsq_messages_recovered_total": C.RECOVERED,
        "rsq_messages_lost_total": C.LOST,
        "rsq_redis_errors_total": C.REDIS_ERRORS,
        "rsq_reconnects_total": C.RECONNECTS,
        "rsq_commands_total": C.COMMANDS,
        "rsq_groups_recreated_total": C.GROUPS_RECREATED,
    }.items():
        assert _value(samples, name, **one) == 1000 + counter
        assert _value(samples, name, **{**one, "slot": "0"}) == 0
    for reason, name in REASONS.items():
        dead = _value(samples, "rsq_messages_dead_lettered_total", **one, reason=reason)
        assert dead == 1000 + C[name.upper()]
    assert _value(samples, "rsq_restarts_total", **one, reason="timeout") == 5
    assert _value(samples, "rsq_restarts_total", **one) == 5
    assert _value(samples, "rsq_fetched_entries", **one) == 7
    assert _value(samples, "rsq_waiting_retries", **one) == 8
    assert _value(samples, "rsq_in_flight", **one) == 0
    assert _value(samples, "rsq_events_dropped_total", **one) == 3
    assert _value(samples, "rsq_slot_up") == 2
    assert _value(samples, "rsq_slot_memory_bytes", **one) > 1 << 20
    assert _value(samples, "rsq_slot_cpu_seconds_total", **one) > 0
    assert _value(samples, "rsq_reloads_total") == 3
    assert _value(samples, "rsq_reloads_failed_total") == 1
    assert _value(samples, "rsq_workers") == 2
    assert 0 <= _value(samples, "rsq_heartbeat_age_seconds") < 60
    assert _value(samples, "rsq_pool_info", stream="orders", group="mailer", instance="web-1") == 1
    created = {**one, "event": "order.created"}
    assert _value(samples, "rsq_handler_seconds_count", **created) == 3
    assert _value(samples, "rsq_handler_seconds_sum", **created) == pytest.approx(1000.20005)
    assert _value(samples, "rsq_handler_seconds_bucket", **created, le="0.0001") == 1
    assert _value(samples, "rsq_handler_seconds_bucket", **created, le="0.25") == 2
    assert _value(samples, "rsq_handler_seconds_bucket", **created, le="300.0") == 2
    assert _value(samples, "rsq_handler_seconds_bucket", **created, le="+Inf") == 3
    assert _value(samples, "rsq_handler_seconds_count", **one, event="") == 1
    assert _value(samples, "rsq_handler_seconds_count", **one, event="other") == 1
    assert _value(samples, "rsq_queue_wait_seconds_sum", **one) == 2
    assert _value(samples, "rsq_batch_size_sum", **one) == 503
    assert _value(samples, "rsq_batch_size_bucket", **one, le="5.0") == 1


def test_metrics_of_a_process_that_is_gone_are_absent_and_not_zero(segment: Segment) -> None:
    segment.slot(1).seat.view[S.PID] = 0
    samples = _exposed(segment)
    slots = {dict(labels)["slot"] for name, labels in samples if name == "rsq_slot_memory_bytes"}
    assert slots == {"0"}


def test_names_that_look_alike_share_a_series(segment: Segment) -> None:
    slot = segment.slot(0)
    for event in (b"\xff", b"\\xff", b"other", b"", b"x\0", b"x"):
        slot.ledger.sums.handler(slot.events.row(event)).add([0.1])
    slot.ledger.sums.handler(Events.OTHER).add([0.1])
    slot.ledger.commit(0, 0)
    samples = _exposed(segment)
    assert _value(samples, "rsq_handler_seconds_count", slot="0", event="\\xff") == 2
    assert _value(samples, "rsq_handler_seconds_count", slot="0", event="other") == 2
    assert _value(samples, "rsq_handler_seconds_count", slot="0") == 7


NAMES = st.one_of(
    st.text(min_size=1, max_size=30),
    st.binary(min_size=1, max_size=30).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


@given(NAMES, st.lists(st.binary(max_size=80), max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_names_make_valid_labels(tmp_path: Path, name: str, events: list[bytes]) -> None:
    try:
        raw = name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return  # half a surrogate pair: no bytes decode to it
    made = Segment.create(tmp_path, Identity(name, "g", "i"), 1)
    made.open_slot(0)
    _run_one(made, events)
    samples = _exposed(made)
    made.close()
    assert {dict(labels)["stream"] for _, labels in samples} == {label(raw)}
    assert _value(samples, "rsq_handler_seconds_count") == len(events)
    assert len({dict(labels).get("event") for _, labels in samples}) <= EVENTS_MAX + 2


def _run_one(segment: Segment, events: list[bytes]) -> None:
    slot = segment.slot(0)
    slot.seat.view[S.STATE] = SeatState.RUNNING
    slot.ledger.load()
    for row in range(EVENTS_MAX + 1):
        cells = slot.ledger.sums.handler(row).cells
        cells[:] = memoryview(bytes(8 * len(cells))).cast("Q")
    for event in events:
        slot.ledger.sums.handler(slot.events.row(event)).add([0.1])
    slot.ledger.commit(0, 0)


# Any bytes


@given(
    st.binary(min_size=1, max_size=4096),
    st.integers(0, SLOT_SIZE - 4096),
    st.sampled_from([b"\x00", b"\xff", b"\x01", b"\x7f"]),
    st.binary(max_size=256),
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_can_be_scraped(
    segment: Segment, noise: bytes, at: int, filler: bytes, header: bytes
) -> None:
    view = segment._view
    start = HEADER_SIZE + SLOT_SIZE
    view[start : start + SLOT_SIZE] = filler * SLOT_SIZE
    view[start + at : start + at + len(noise)] = noise
    view[_CELLS_AT : _CELLS_AT + len(header)] = header
    seen = snapshot(segment)
    assert seen.slots[0].slot == 0
    assert _exposed(segment)


def test_a_young_pool_has_no_minute_to_average_over(segment: Segment) -> None:
    """Rates are per second of the pool's own life as long as that is shorter than a minute."""
    slot = segment.slot(0)
    slot.rates.add(NOW - 20, 1000, 1000)
    slot.rates.add(NOW - 5, 100, 50)
    segment.pool.real[P.HEARTBEAT], segment.pool.real[P.STARTED] = NOW - 1, EPOCH - 10
    seen = snapshot(segment, NOW, EPOCH).slots[0]
    assert (seen.came, seen.went) == (10.0, 5.0)


def test_the_sum_that_is_documented_is_the_one_that_every_fault_test_checks() -> None:
    """Each of its parts, and no other."""
    text = DOCS.read_text()
    (line,) = re.findall(
        r"^    (handled .*)\n      = entries of the stream since the group's start$", text, re.MULTILINE
    )
    assert line.split(" + ") == list(accounted({}, {}, 0, 0))
    assert {"buried", "lost"} <= {what.name.lower() for what in Swept}
