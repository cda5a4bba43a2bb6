"""The ring of loans, and the nudge."""

from __future__ import annotations

import os
import signal

from rsq.ipc.cells import CELL, K, Keep
from rsq.ipc.loans import LOANS_MAX, Loans
from rsq.ipc.nudge import NUDGE, Nudge


def test_what_was_lent_is_known_until_the_ring_is_full() -> None:
    raw = memoryview(bytearray(Loans.SIZE))
    loans = Loans(raw)
    ids = [b"%d-%d" % (n + 1, n) for n in range(LOANS_MAX + 1)]
    loans.add(ids[:-1])
    assert ids[0] in Loans(raw)
    loans.add(ids[-1:])
    assert ids[0] not in loans
    assert ids[1] in loans
    assert ids[-1] in loans
    assert b"2-0" not in loans


def test_what_was_refused_is_struck_out() -> None:
    loans = Loans(memoryview(bytearray(Loans.SIZE)))
    loans.add([b"1-0", b"1-1", b"2-0"])
    loans.strike([b"1-1"])
    assert [entry in loans for entry in (b"1-0", b"1-1", b"2-0")] == [True, False, True]


def test_a_nudge_is_given_only_to_a_keeper_that_sleeps() -> None:
    keep = Keep(memoryview(bytearray(Keep.SIZE * CELL)))
    came: list[int] = []
    before = signal.signal(NUDGE, lambda number, _: came.append(number))
    try:
        keep.view[K.PID] = os.getpid()
        Nudge(keep).give()
        assert not came
        keep.view[K.CALM] = 1
        Nudge(keep).give()
        assert came == [NUDGE]
        keep.view[K.PID] = 0
        Nudge(keep).give()
        assert came == [NUDGE]
    finally:
        signal.signal(NUDGE, before)
