"""The instance that leads a group ends, in order or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support_hosts import kill_all
from support_pool import Pool, until

pytestmark = pytest.mark.every_server

HANDLER = "def handle(message): pass\n"


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_another_leads_with_a_greater_epoch(make_pool: Callable[..., Pool], end: str) -> None:
    """At once when the first lets go, else when its lease has run out; both say so in the log."""
    first = make_pool(HANDLER, "--lease", "6")
    second = make_pool(HANDLER, "--lease", "6", "--instance", "other")
    first.start()
    second.start()
    second.wait_log("test leads events/workers, epoch 2")
    until(lambda: first.keep("LEADING") == 1, "the lead")  # it may be ready before it has noted that
    assert second.keep("LEADING") == 0
    assert first.keep("LEADER_EPOCH") == second.keep("LEADER_EPOCH") == 2
    if end == "stopped":
        assert first.stop() == 0
    else:
        kill_all(first)
    second.wait_log("leads events/workers, epoch 4")
    until(lambda: second.keep("LEADING") == 1, "the lead")
    assert second.keep("LEADER_EPOCH") == 4
    first.start()
    first.wait_log("other leads events/workers, epoch 4")
    assert first.keep("LEADING") == 0
    assert first.stop() == second.stop() == 0
