"""The first page of a worker's life, seen by those who look on."""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any

from support_shared import shared

from rsq.ipc.cells import CELL, D, Desk, DeskState
from rsq.worker import child


def test_at_no_instant_does_a_new_worker_look_like_its_booted_predecessor() -> None:
    """The master looks on at any time, also between two stores."""
    desk = Desk(shared(Desk.SIZE * CELL))
    desk.view[D.PID], desk.real[D.BOOTED], desk.view[D.STATE] = 1, 123.0, DeskState.HANDLING
    desk.view[D.HELD], desk.view[D.SETTLED], desk.view[D.WAKES] = 7, 1, 3
    looks = 0

    def look(frame: FrameType, _event: str, _argument: object) -> Any:
        nonlocal looks
        if frame.f_code is not child._sit_down.__code__:
            return None
        frame.f_trace_opcodes = True
        looks += 1
        if desk.view[D.PID] == os.getpid():
            assert not desk.real[D.BOOTED]
            assert desk.view[D.STATE] == DeskState.BOOTING
            assert [desk.view[cell] for cell in (D.HELD, D.SETTLED, D.WAKES)] == [0, 0, 0]
        return look

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for it when tracing begins
    sys.settrace(look)
    try:
        child._sit_down(desk)
    finally:
        sys.settrace(before)
    assert desk.view[D.PID] == os.getpid()
    assert looks > 20, "every bytecode is looked at"
