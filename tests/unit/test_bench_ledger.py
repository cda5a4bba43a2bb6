"""The ledger of a run with crashes tells innocents from culprits, and sums up exactly."""

from __future__ import annotations

from pathlib import Path

from rsq.bench.adapters.account import FATAL, Account, fatal
from rsq.bench.ledger import Ledger, ledger


def test_every_kind_of_fate_is_counted(tmp_path: Path) -> None:
    account = Account(tmp_path / "account", 2000)
    for number in range(2000):
        account.times[number] = 1
        account.begun[number] = 100.0 + number
    first, second = FATAL, FATAL + 1000
    assert [number for number in range(2000) if fatal(number)] == [first, second]
    account.times[3] = account.times[4] = 0  # one is lost,
    account.begun[3] = account.begun[4] = 0.0
    account.buried[4] = 1  # one a dead letter without having been handled,
    account.buried[5] = 1  # one in spite of that,
    account.times[6], account.times[7] = 2, 3  # and two are handled more than once
    account.times[first], account.buried[first] = 3, 1
    account.begun[first] -= 0.25  # it is on its way that long, the next message as soon as ever
    assert ledger(account, 4) == Ledger(
        innocents=1998, lost=1, again=2, most=3, buried=2,
        fatal_begun=(3, 1), fatal_buried=1, gaps_s=(1.25, 1.0), restarts=4,
    )  # fmt: skip


def test_a_worker_that_never_comes_back_leaves_no_gap(tmp_path: Path) -> None:
    account = Account(tmp_path / "account", 1000)
    for number in range(FATAL + 1):
        account.times[number], account.begun[number] = 1, 1.0 + number
    found = ledger(account, 0)
    assert found.gaps_s == ()
    assert found.lost == 1000 - FATAL - 1
