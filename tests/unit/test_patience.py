"""Pauses grow to a limit, with jitter; the same words are not said again for a while."""

from __future__ import annotations

from rsq.worker.patience import Patience


def test_pauses_double_up_to_the_limit_and_begin_anew() -> None:
    patience = Patience(0.1, 1.0)
    for middle in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        assert middle * 0.5 <= patience.pause_s() <= middle * 1.5
    patience.restored()
    assert patience.pause_s() <= 0.15


def test_pauses_differ() -> None:
    assert len({Patience(1.0, 1.0).pause_s() for _ in range(20)}) > 1


def test_the_same_is_said_again_only_after_a_while() -> None:
    patience = Patience(0.1, 1.0)
    assert patience.is_news("full", 0.0)
    assert not patience.is_news("full", 29.0)
    assert patience.is_news("loading", 29.0)
    assert not patience.is_news("loading", 58.0)
    assert patience.is_news("loading", 60.0)
    patience.restored()
    assert patience.is_news("loading", 60.0)
