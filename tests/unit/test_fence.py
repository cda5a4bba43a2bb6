"""The fence: whether the pool may act, by the keeper's cells alone."""

from __future__ import annotations

from support_shared import shared

from rsq.ipc.cells import CELL, K, Keep
from rsq.ipc.fence import Fence, boot_time


def _fence() -> tuple[Fence, Keep]:
    keep = Keep(shared(Keep.SIZE * CELL))
    return Fence(keep), keep


def test_without_a_keeper_nobody_may_act() -> None:
    fence, _ = _fence()
    assert not fence.holds
    assert not fence.is_open
    assert not fence.unchanged(fence.term)


def test_trust_ends_by_itself() -> None:
    fence, keep = _fence()
    keep.real[K.UNTIL] = boot_time() + 60
    assert fence.holds
    assert fence.is_open
    assert 59 < fence.left_s <= 60
    keep.real[K.UNTIL] = boot_time() - 0.001
    assert not fence.holds
    assert fence.left_s < 0


def test_a_paused_group_holds_its_lease_but_starts_nothing() -> None:
    fence, keep = _fence()
    keep.real[K.UNTIL], keep.view[K.PAUSED] = boot_time() + 60, 1
    assert (fence.holds, fence.paused, fence.is_open) == (True, True, False)
    assert fence.unchanged(fence.term), "what is finished is acknowledged plainly"


def test_another_term_means_that_others_may_have_acted() -> None:
    fence, keep = _fence()
    keep.real[K.UNTIL] = boot_time() + 60
    before = fence.term
    assert fence.unchanged(before)
    keep.view[K.TERM] += 1
    assert not fence.unchanged(before)
    assert fence.unchanged(fence.term)
