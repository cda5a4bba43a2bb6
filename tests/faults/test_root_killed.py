"""kill -9 of the root of several pools while their workers run handlers."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from support_pool import numbers, until
from support_servers import is_gone
from support_several import Several

HANDLERS = """
    def slow(message):
        started(message)
        if message.data["n"] >= 100:
            wait_for("go")
        finished(message)
    """
TWO = """
    handler = "app:slow"
    batch-max = 20
    [[pool]]
    stream = "orders"
    [[pool]]
    stream = "mails"
    """


@pytest.mark.parametrize("replaced", ["later", "at once"])
def test_masters_leave_and_workers_finish(make_several: Callable[..., Several], replaced: str) -> None:
    """What runs is finished, once; the rest is handed back uncharged; the next root goes on."""
    pools = make_several(TWO, HANDLERS).start(ready=2)
    ids = {stream: pools.push(stream, numbers(150)) for stream in ("orders", "mails")}
    for stream, entries in ids.items():
        pools.wait_finished(stream, entries[:100])
        until(lambda s=stream: len(pools.started(s)) == 102, "two that run")  # type: ignore[misc]
    masters = [pools.master(stream) for stream in ids]
    running = {stream: pools.workers(stream) for stream in ids}
    pools.signal(signal.SIGKILL)
    assert pools.wait() == -signal.SIGKILL
    until(lambda: all(map(is_gone, masters)), "the end of the masters")
    assert {stream: pools.workers(stream) for stream in ids} == running, "a handler was cut off"
    assert len(pools.strays()) == 4 + 2, "nobody keeps the lease of a worker"
    if replaced == "at once":
        pools.start()
        pools.wait_log("of a former master, still works in it: waiting", 2)
    pools.redis.set("go", 1)
    if replaced == "later":
        until(lambda: not pools.strays(), "the end of all that is left")
        assert {len(pools.started(stream)) for stream in ids} == {102}, "somebody read on"
        pools.start()
    pools.wait_log("ready: 2 pools")
    for stream, entries in ids.items():
        pools.wait_finished(stream, entries)
    pools.wait_settled(*ids)
    assert pools.stop() == 0
    for stream, entries in ids.items():
        pools.assert_exact(stream, entries)
        assert pools.counters(stream)["FAILED"] == 0


def test_a_root_that_is_killed_before_all_are_prepared(make_several: Callable[..., Several]) -> None:
    """Masters that wait for its word end; nothing was read."""
    handlers = """
        if os.path.exists("slow"):
            while not os.path.exists("go on"):
                time.sleep(0.01)
        """
    pools = make_several(TWO, HANDLERS + handlers)
    (pools.folder / "slow").touch()
    pools.push("orders", numbers(3))
    pools.start()
    until(lambda: len(pools.family()) == 3, "two masters")
    masters = pools.family()[1:]
    pools.signal(signal.SIGKILL)
    pools.wait()
    (pools.folder / "go on").touch()
    until(lambda: all(map(is_gone, masters)), "their end")
    assert pools.redis.xinfo_groups("orders") == []
