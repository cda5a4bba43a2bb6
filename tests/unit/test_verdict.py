"""What becomes of an entry after a failed attempt."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.ipc.exitcodes import EXITED, Cause, Death
from rsq.ipc.journal import Outcome
from rsq.streams.bounds import shown
from rsq.streams.entry import DecodeError
from rsq.worker.spec import Retries
from rsq.worker.verdict import Reject, Retry, Verdict, backoff_s, describe, judge, judge_death, story

RETRIES = Retries(max_attempts=3, base_s=1.0, max_s=10.0)
CRASH = Death(Cause.CRASH, signal.SIGSEGV)


def _half() -> float:
    return 0.5


def _judge(error: BaseException, attempt: int = 1) -> Verdict:
    return judge(error, attempt, RETRIES, _half)


def _raised(raises: Callable[[], object]) -> BaseException:
    try:
        raises()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyboardInterrupt(), SystemExit(0), MemoryError(), GeneratorExit()]
)
def test_whatever_is_raised_is_tried_again_until_the_limit(error: BaseException) -> None:
    assert _judge(error, 1) == Verdict(Outcome.WAITING, delay_s=0.5)
    assert _judge(error, 2) == Verdict(Outcome.WAITING, delay_s=1.0)
    assert _judge(error, 3) == Verdict(Outcome.DEAD_MAX_ATTEMPTS, "max_attempts")
    assert _judge(error, 4) == Verdict(Outcome.DEAD_MAX_ATTEMPTS, "max_attempts"), "the limit was lowered"


def test_with_one_attempt_nothing_is_tried_again() -> None:
    assert judge(ValueError(), 1, Retries(1, 1.0, 10.0), _half).outcome is Outcome.DEAD_MAX_ATTEMPTS


def test_what_cannot_be_decoded_is_never_tried_again() -> None:
    assert _judge(DecodeError("no JSON")) == Verdict(Outcome.DEAD_DECODE, "decode_error")


def test_a_handler_can_reject() -> None:
    assert _judge(Reject("no such customer")) == Verdict(Outcome.DEAD_REJECTED, "rejected")


def test_a_handler_can_choose_the_delay_but_has_no_more_attempts_for_that() -> None:
    assert _judge(Retry(delay=3600)) == Verdict(Outcome.WAITING, delay_s=3600)
    assert _judge(Retry(delay=0)) == Verdict(Outcome.WAITING, delay_s=0)
    assert _judge(Retry("busy")) == Verdict(Outcome.WAITING, delay_s=0.5)
    assert _judge(Retry(delay=5), 3) == Verdict(Outcome.DEAD_MAX_ATTEMPTS, "max_attempts")


IMPOSSIBLE = [
    -1, -0.001, math.nan, math.inf, 10**400, 10**5000, 1e12, True, "5", b"5", 1j, [], range(3),
    Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1e400"), timedelta(days=-1), timedelta.max,
]  # fmt: skip


@pytest.mark.parametrize("delay", IMPOSSIBLE, ids=shown)
def test_a_delay_that_cannot_be_is_refused_in_the_handler(delay: Any) -> None:
    with pytest.raises(ValueError, match=r"a delay of .* s is not possible"):
        Retry(delay=delay)


@pytest.mark.parametrize("delay", IMPOSSIBLE, ids=shown)
def test_a_delay_that_cannot_be_and_was_set_later_leaves_the_backoff(delay: Any) -> None:
    """A class of the user's need not call ours, and the attribute is open to all."""
    error = Retry("busy")
    error.delay = delay
    assert _judge(error) == Verdict(Outcome.WAITING, delay_s=0.5)
    assert describe(error).startswith("Retry: busy (a delay of ")
    assert describe(error).endswith(" s is not possible; the backoff applies)")


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [(5, 5), (0.25, 0.25), (Decimal("1.5"), 1.5), (Fraction(1, 2), 0.5), (timedelta(minutes=1), 60), (0, 0)],
)
def test_a_delay_may_be_of_any_type_that_means_one(delay: Any, seconds: float) -> None:
    made = Retry("busy", delay=delay)
    later = Retry("busy")
    later.delay = delay
    for error in (made, later):
        verdict = _judge(error)
        assert verdict == Verdict(Outcome.WAITING, delay_s=seconds)
        assert type(verdict.delay_s) is float
        assert describe(error) == "Retry: busy"


def test_a_retry_of_a_class_that_does_not_call_ours_has_no_delay() -> None:
    class Later(Retry):
        def __init__(self) -> None:
            pass

    assert _judge(Later()) == Verdict(Outcome.WAITING, delay_s=0.5)


def test_a_death_is_an_attempt_like_any_other() -> None:
    assert judge_death(CRASH, 1, RETRIES, _half) == Verdict(Outcome.WAITING, delay_s=0.5)
    assert judge_death(CRASH, 3, RETRIES, _half) == Verdict(Outcome.DEAD_CRASH, "crash: SIGSEGV")
    late = Death(Cause.TIMEOUT, signal.SIGKILL)
    assert judge_death(late, 3, RETRIES, _half) == Verdict(Outcome.DEAD_TIMEOUT, "timeout")


@pytest.mark.parametrize(
    ("death", "words"),
    [
        (CRASH, "crash: SIGSEGV"),
        (Death(Cause.CRASH, EXITED + 3), "crash: exit 3"),
        (Death(Cause.CRASH, EXITED), "crash: exit 0"),
        (Death(Cause.CRASH, 64), "crash: SIGRTMAX"),
        (Death(Cause.CRASH, 40), "crash: signal 40"),
        (Death(Cause.TIMEOUT, signal.SIGKILL), "timeout"),
        (Death(Cause.UNKNOWN), "crash: unseen"),
    ],
)
def test_words_for_a_death(death: Death, words: str) -> None:
    assert death.words == words


def test_only_the_entrys_own_fault_is_charged() -> None:
    charging = {cause for cause in Cause if Death(cause, 9).charges}
    assert charging == {Cause.UNKNOWN, Cause.CRASH, Cause.TIMEOUT}


@given(st.integers(1, 10**9), st.floats(0, 1, exclude_max=True), st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_delay_is_drawn_below_a_growing_ceiling(
    attempt: int, drawn: float, base_s: float, max_s: float
) -> None:
    retries = Retries(10**9, base_s, max_s)
    assert 0 <= backoff_s(attempt, retries, lambda: drawn) <= max_s
    assert backoff_s(attempt, retries, lambda: 1.0) <= backoff_s(attempt + 1, retries, lambda: 1.0)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")

    __repr__ = __str__


def test_an_error_that_cannot_be_printed_is_described_all_the_same() -> None:
    def fail() -> None:
        raise Unprintable

    error = _raised(fail)
    assert describe(error) == "Unprintable: <its text cannot be made: RuntimeError>"
    assert "in fail" in story(error)
    assert "Unprintable" in story(error)


def test_an_error_is_described_by_type_and_text() -> None:
    assert describe(ValueError("wrong")) == "ValueError: wrong"
    assert describe(ValueError()) == "ValueError"


def test_a_story_begins_with_the_users_first_frame_and_tells_causes() -> None:
    def cause() -> None:
        raise KeyError("inner")

    def fail() -> None:
        try:
            cause()
        except KeyError as error:
            raise ValueError("outer") from error

    told = story(_raised(fail))
    assert told.startswith("Traceback (most recent call last):")
    assert "KeyError: 'inner'" in told
    assert told.rstrip().endswith("ValueError: outer")


def test_a_story_without_any_frame_of_the_user_is_told() -> None:
    assert story(ValueError("never raised")) == "ValueError: never raised\n"
