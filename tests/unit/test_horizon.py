"""What a master sees of the backlog: its share of it, what its slots hold, and when it sees nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsq.ipc.cells import D, K, P
from rsq.ipc.segment import Identity, Segment
from rsq.supervisor.horizon import STALE_S, Horizon
from rsq.supervisor.scaling import Outlook, Scale
from rsq.supervisor.spawn import portions_of

SCALE = Scale(1, 8)
NOW = 10_000.0
PIDS = {0: 1, 1: 2}


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[Segment]:
    """Two slots wanted, a hundred entries unread a second ago."""
    made = Segment.create(tmp_path, Identity("orders", "mailer", "web-1"), 2)
    for number in range(2):
        made.open_slot(number)
    made.pool.view[P.WORKERS] = 2
    measure(made, 100)
    yield made
    made.close()


def measure(
    segment: Segment, unread: int, *, exact: bool = True, oldest_s: float = 0.0, ago: float = 1.0
) -> None:
    keep = segment.keep
    keep.view[K.UNREAD], keep.view[K.UNREAD_SURE] = unread, exact
    keep.real[K.UNREAD_S], keep.real[K.UNREAD_AT] = oldest_s, NOW - ago


def look(segment: Segment, scale: Scale = SCALE) -> Outlook | None:
    return Horizon(segment, scale).look(PIDS, NOW)


def test_all_that_is_unread_is_for_a_pool_that_is_alone(segment: Segment) -> None:
    assert look(segment) == Outlook(100)
    segment.keep.view[K.FLEET] = 2
    assert look(segment) == Outlook(100)


def test_in_a_fleet_a_pool_takes_the_share_of_its_slots(segment: Segment) -> None:
    segment.keep.view[K.FLEET] = 8
    assert look(segment) == Outlook(25)


def test_what_its_slots_hold_and_do_not_run_is_its_own(segment: Segment) -> None:
    """Retries count when they are due."""
    segment.keep.view[K.FLEET] = 8
    one, other = segment.slot(0), segment.slot(1)
    one.desk.view[D.HELD], one.desk.view[D.RUNNING] = 5, 1
    other.desk.view[D.HELD], other.desk.view[D.WAITING] = 1, 3
    other.waiting.load()
    for number, due in enumerate((NOW - 1, NOW, NOW + 1)):
        other.waiting.put(b"%d-0" % number, 2, due)
    assert look(segment) == Outlook(25 + 4 + 1 + 2)


def test_what_is_not_certain_is_said(segment: Segment) -> None:
    measure(segment, 1000, exact=False, oldest_s=40.0)
    assert look(segment) == Outlook(1000, exact=False, oldest_s=40.0)


def test_old_news_is_no_news(segment: Segment) -> None:
    measure(segment, 100, ago=STALE_S + 0.1)
    assert look(segment) is None
    segment.keep.real[K.UNREAD_AT] = 0.0
    assert look(segment) is None


def test_a_paused_group_has_no_outlook(segment: Segment) -> None:
    segment.keep.view[K.PAUSED] = 1
    assert look(segment) is None


def test_memory_is_looked_at_where_it_is_limited(segment: Segment) -> None:
    """One process at a time; those not measured yet are taken for average, those that are gone forgotten."""
    found = Horizon(segment, Scale(1, 8, max_memory=1 << 30))
    first = found.look({0: os.getpid(), 1: os.getppid()}, NOW)
    assert first is not None
    assert first.memory is not None
    assert first.memory.total >= 2 * first.memory.each > 0
    gone = found.look({0: 2**22 + 1}, NOW)
    assert gone is not None
    assert gone.memory is None


def test_the_portion_of_a_process_is_no_more_than_all_of_it() -> None:
    sizes = portions_of(os.getpid())
    assert sizes is not None
    portion, own = sizes
    assert portion >= own > 1 << 20
    assert portions_of(2**22 + 1) is None
