"""What a worker does while it may not act, in whichever order the reasons for it come and go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rsq.ipc.cells import D, DeskState
from rsq.worker import standby as module
from rsq.worker.standby import Standby


class _Fence:
    """A fence that changes with every wait."""

    def __init__(self, *states: tuple[bool, bool]) -> None:
        """Take (holds, paused), one after the other; the last one stays."""
        self.states = list(states)

    def pass_on(self, *_: Any) -> None:
        if len(self.states) > 1:
            self.states.pop(0)

    @property
    def holds(self) -> bool:
        return self.states[0][0]

    @property
    def paused(self) -> bool:
        return self.states[0][1]

    @property
    def is_open(self) -> bool:
        return self.holds and not self.paused


LEFT = ["sent", "finished"]


@pytest.mark.parametrize(
    ("states", "done"),
    [
        ([(True, True), (True, True), (True, False)], LEFT),
        ([(False, True), (True, True), (True, True), (True, False)], LEFT),
        ([(False, False), (True, True), (False, True), (True, True), (True, False)], LEFT),
        ([(False, True), (True, False)], []),
        ([(False, False), (True, False)], []),
    ],
    ids=["a pause", "a pause without trust", "a pause behind a loss of trust", "both are over", "no trust"],
)
def test_what_is_finished_is_acknowledged_once_a_pause_is_certain(
    monkeypatch: pytest.MonkeyPatch, states: list[tuple[bool, bool]], done: list[str]
) -> None:
    """As soon as the lease can be trusted, which may be long after the pause has begun."""
    said: list[str] = []
    session: Any = SimpleNamespace(
        wire=object(), send=lambda: said.append("sent"), finish=lambda _deadline: said.append("finished")
    )
    fence: Any = _Fence(*states)
    monkeypatch.setattr(module, "wait_readable", fence.pass_on)
    slot: Any = SimpleNamespace(desk=SimpleNamespace(view=[0] * 64))
    controls: Any = SimpleNamespace(stopping=[], watch=(), look=lambda: None)
    backlog: Any = None
    standby = Standby("test:0", slot, session, backlog, controls, fence)
    assert standby.wait()
    assert said == done
    assert slot.desk.view[D.STATE] == DeskState.STANDING_BY
