"""The ledger of a run in which some messages kill the process that handles them."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from .adapters.account import Account, fatal


@dataclass(frozen=True)
class Ledger:
    """What a run with crashes did to its messages.

    Arguments:
        innocents: messages that kill nobody; of these,
        lost: neither handled nor a dead letter when nothing had happened for a while;
        again: handled more than once, `most` times at most;
        buried: made dead letters.
        fatal_begun: how often each message that kills was begun.
        fatal_buried: how many of these are dead letters.
        gaps_s: from each crash to the next message that had not been begun before.
        restarts: how often the worker had ended and a loop started it again.
    """

    innocents: int
    lost: int
    again: int
    most: int
    buried: int
    fatal_begun: tuple[int, ...]
    fatal_buried: int
    gaps_s: tuple[float, ...]
    restarts: int


def ledger(account: Account, restarts: int) -> Ledger:
    """Sum up what happened to the messages of a run with crashes."""
    begun = sorted(at for at in account.begun if at)
    innocent = [number for number in range(account.messages) if not fatal(number)]
    culprit = [number for number in range(account.messages) if fatal(number)]
    after = [
        begun[bisect.bisect_right(begun, account.begun[number])] - account.begun[number]
        for number in culprit
        if account.begun[number] and account.begun[number] < begun[-1]
    ]
    return Ledger(
        innocents=len(innocent),
        lost=sum(not account.times[number] and not account.buried[number] for number in innocent),
        again=sum(account.times[number] > 1 for number in innocent),
        most=max(account.times[number] for number in innocent),
        buried=sum(account.buried[number] for number in innocent),
        fatal_begun=tuple(account.times[number] for number in culprit),
        fatal_buried=sum(account.buried[number] for number in culprit),
        gaps_s=tuple(after),
        restarts=restarts,
    )
