"""A pool stands still and is robbed; when it wakes up, its keeper is faster than its master or its worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from support_hosts import Fleet, family, term
from support_pool import Pool, numbers, until
from support_servers import stand_still

from rsq.ipc.fence import boot_time

HANDLER = """
    def handle(message):
        started(message)
        if message.data["n"] == 0 and message.attempt == 1:
            wait_for("go")
        finished(message)
"""


@contextmanager
def only_its_keeper_wakes_up(asleep: Pool, awake: Pool) -> Iterator[tuple[Fleet, list[str]]]:
    """Inside the block another has done all that `asleep` has in hand, and its new lease is trusted."""
    fleet = Fleet(awake, asleep)
    quick = asleep.push(numbers(300)[1:])  # it learns to read many at once
    asleep.start()
    asleep.wait_finished(quick)
    asleep.wait_settled()
    with asleep.redis.pipeline(transaction=True) as together:
        for n in range(4):
            together.xadd("events", {"data": f'{{"n":{n}}}'})
        ids = [entry.decode() for entry in together.execute()]
    asleep.wait_started(ids[0])
    assert len(asleep.batch().ids) == 4
    awake.start()
    before, pids = term(asleep), family(asleep)
    stand_still(*pids)
    awake.wait_finished(ids)
    awake.wait_settled()
    os.kill(asleep.keeper(), signal.SIGCONT)
    until(lambda: term(asleep) == before + 1 and asleep.keep("UNTIL") > boot_time(), "a new term")
    yield fleet, [*ids, *quick]


def let_go(pool: Pool) -> None:
    """Let all of its processes go on; what the first ones did meanwhile may have ended others."""
    for pid in family(pool):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_the_master_has_not_seen_that_the_trust_had_ended(make_pool: Callable[..., Pool]) -> None:
    """It has never stopped the handler, and kills it all the same: the entry belongs to another."""
    asleep = make_pool(HANDLER, "--instance", "asleep", "--lease", "3", "--batch-ms", "60000")
    awake = make_pool(HANDLER, "--instance", "awake", "--lease", "3")
    with only_its_keeper_wakes_up(asleep, awake) as (fleet, ids):
        let_go(asleep)
        asleep.wait_log("was given to another instance meanwhile: killed, not charged")
    asleep.release("go")
    fleet.stop()
    fleet.assert_exact(ids, restarted={ids[0]: 2})
    assert asleep.counters()["FAILED"] == 0


def test_the_rest_of_the_batch_is_not_started(make_pool: Callable[..., Pool]) -> None:
    """The handler returns before anybody could stop it: what is behind it may belong to others by now.

    The contract allows that its own entry is done twice: the master, which would stop it, stands still.
    """
    asleep = make_pool(HANDLER, "--instance", "asleep", "--lease", "3", "--batch-ms", "60000")
    awake = make_pool(HANDLER, "--instance", "awake", "--lease", "3")
    with only_its_keeper_wakes_up(asleep, awake) as (fleet, ids):
        asleep.release("go")
        os.kill(asleep.worker(), signal.SIGCONT)
        until(lambda: asleep.finished()[ids[0]] == 2, "the end of the handler")
        until(lambda: not asleep.is_running_handler(), "the end of the batch")
        let_go(asleep)
    more = asleep.push(numbers(1))
    asleep.wait_finished(more)
    fleet.stop()
    assert asleep.started() == dict.fromkeys([*ids, *more], 1) | {ids[0]: 2}
    assert (asleep.pending(), asleep.unread(), asleep.dead()) == (0, 0, {})
