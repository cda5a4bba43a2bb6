"""The verdict on a failed attempt. Pure."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any

from ..ipc.exitcodes import Cause, Death
from ..ipc.journal import Outcome
from ..streams.bounds import DELAY_MAX_S, shown, span_s
from ..streams.entry import DecodeError
from .spec import Retries

Delay = float | Decimal | Fraction | timedelta


class Retry(Exception):
    """Raised by a handler: try again, not before `delay` seconds have passed.

    It counts as an attempt like any failure; without a delay the usual backoff applies.
    """

    delay: Delay | None = None

    def __init__(self, reason: str = "", *, delay: Delay | None = None) -> None:
        """Give a reason for the log, and a delay: seconds or a timedelta, up to ten years.

        Raises:
            ValueError: there is no such delay. In a handler that is a failure like any other: the entry is
                tried again after the usual backoff.
        """
        super().__init__(reason)
        if delay is not None:
            self.delay = _delay_s(delay)


def _delay_s(delay: object) -> float:
    try:
        return span_s(delay, 0.0, DELAY_MAX_S)
    except ValueError:
        raise ValueError(f"a delay of {shown(delay)} s is not possible") from None


class Reject(Exception):
    """Raised by a handler: this entry will never succeed, to the dead letters with it."""


class SoftTimeout(Exception):
    """Raised inside a handler that has run longer than the soft limit."""


class Duplicate(Exception):
    """Raised in place of a call of the handler: another copy has been handled."""


class Ignored(Exception):
    """Raised by a router: nobody handles this event here, and that is no failure."""


class UnknownEvent(Exception):
    """Raised by a router: nobody handles this event here, and somebody should."""

    def __init__(self, words: str, *, dead: bool) -> None:
        """Say which event; `dead`: to the dead letters with it, now."""
        super().__init__(words)
        self.dead = dead


class BreakerOpen(Exception):
    """Raised in place of a call of the handler: the circuit breaker of its event is not closed."""

    def __init__(self, *, dead: bool) -> None:
        """Say what becomes of the entry; `dead`: to the dead letters with it, now."""
        super().__init__("the circuit breaker of its event is open")
        self.dead = dead


class NotDone(Exception):
    """What failed an entry that a batch handler did not say is done."""


class NeverRan(Exception):
    """What failed an entry whose handler returned its work instead of doing it."""


LAZY = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})  # what such a handler returns


def never_ran(work: Any) -> NeverRan:
    """Return the error for what a handler returned, a value of one of the types in `LAZY`."""
    if type(work) is CoroutineType:
        work.close()  # and no warning that nobody awaited it
    kind = type(work).__name__.replace("_", " ")
    return NeverRan(
        f"the handler returned {'an' if kind[0] == 'a' else 'a'} {kind}, which nobody runs:"
        " make it an async def that awaits, or let it return when its work is done"
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an entry after a failed attempt.

    Arguments:
        outcome: WAITING, DEFERRED, or one of the DEAD ones.
        reason: as the dead letter names it.
        delay_s: until the next attempt, for WAITING.
    """

    outcome: Outcome
    reason: str = ""
    delay_s: float = 0.0


OURS = ("rsq.worker", "rsq.streams", "rsq.ipc")  # modules whose frames are not the user's

REASONS = {
    Outcome.DEAD_MAX_ATTEMPTS: "max_attempts",
    Outcome.DEAD_CRASH: "crash",
    Outcome.DEAD_TIMEOUT: "timeout",
    Outcome.DEAD_DECODE: "decode_error",
    Outcome.DEAD_REJECTED: "rejected",
    Outcome.DEAD_UNKNOWN_EVENT: "unknown_event",
    Outcome.DEAD_BREAKER: "breaker_open",
}


def backoff_s(attempt: int, retries: Retries, draw: Callable[[], float]) -> float:
    """Return the seconds to wait after a failed attempt: full jitter below a growing ceiling.

    Arguments:
        attempt: the attempt that failed, from 1.
        retries: base and limit.
        draw: returns a number in [0, 1).
    """
    ceiling = min(retries.max_s, retries.base_s * 2 ** min(attempt - 1, 62))
    return float(draw() * ceiling)


def judge(error: BaseException, attempt: int, retries: Retries, draw: Callable[[], float]) -> Verdict:
    """Return what becomes of an entry whose handler raised."""
    if isinstance(error, DecodeError):
        return Verdict(Outcome.DEAD_DECODE, "decode_error")
    if isinstance(error, Reject):
        return Verdict(Outcome.DEAD_REJECTED, "rejected")
    if isinstance(error, UnknownEvent) and error.dead:
        return Verdict(Outcome.DEAD_UNKNOWN_EVENT, "unknown_event")
    if isinstance(error, BreakerOpen):
        return Verdict(Outcome.DEAD_BREAKER if error.dead else Outcome.DEFERRED, "breaker_open")
    if attempt >= retries.max_attempts:
        return Verdict(Outcome.DEAD_MAX_ATTEMPTS, "max_attempts")
    if isinstance(error, Retry) and error.delay is not None:
        with contextlib.suppress(ValueError):  # of a class of the user's, or set later; `describe` says it
            return Verdict(Outcome.WAITING, delay_s=_delay_s(error.delay))
    return Verdict(Outcome.WAITING, delay_s=backoff_s(attempt, retries, draw))


def judge_death(death: Death, attempt: int, retries: Retries, draw: Callable[[], float]) -> Verdict:
    """Return what becomes of an entry whose handler took its process with it."""
    if attempt < retries.max_attempts:
        return Verdict(Outcome.WAITING, delay_s=backoff_s(attempt, retries, draw))
    outcome = Outcome.DEAD_TIMEOUT if death.cause is Cause.TIMEOUT else Outcome.DEAD_CRASH
    return Verdict(outcome, death.words)


def as_decode_error(error: Exception) -> Exception:
    """Return the error of a payload that cannot be decoded; a lack of memory or time is not its fault."""
    if isinstance(error, DecodeError | Duplicate | BreakerOpen | MemoryError | SoftTimeout):
        return error
    wrapped = DecodeError(f"{type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped


def describe(error: BaseException) -> str:
    """Return `Type: text` for an error, whatever its `__str__` does."""
    try:
        words = str(error)
    except BaseException as worse:  # user code runs in __str__
        words = f"<its text cannot be made: {type(worse).__name__}>"
    name = type(error).__name__
    if isinstance(error, Retry) and error.delay is not None:
        try:
            _delay_s(error.delay)
        except ValueError as worse:
            words = f"{words} ({worse}; the backoff applies)".strip()
    return f"{name}: {words}" if words else name


def story(error: BaseException) -> str:
    """Return the traceback of an error, whatever its parts do, without our own frames on top."""
    try:
        return "".join(traceback.format_exception(type(error), error, _user_frames(error)))
    except BaseException:  # user code runs in __repr__ and __str__
        try:
            frames = "".join(traceback.format_tb(_user_frames(error)))
        except BaseException:
            frames = ""
        return f"Traceback (most recent call last):\n{frames}{describe(error)}\n"


def _user_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback from the first frame that is not ours."""
    start = error.__traceback__
    at = start
    while at is not None and at.tb_frame.f_globals.get("__name__", "").startswith(OURS):
        at = at.tb_next
    return at or start
