"""What an exchange with the server consists of, for code that does no I/O itself.

Such code is a generator: it yields a `Talk` and is given a `Heard`, or yields a `Pause` and is given None; in
the end it returns its result or raises. Whoever does the steps, blocking or with asyncio, decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.exceptions import ConnectionError as Lost
from redis.exceptions import RedisError

from .lookout import EVERY_S
from .trouble import elsewhere


@dataclass(frozen=True, slots=True)
class Talk:
    """Send this, then read so many answers."""

    data: bytes
    count: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for so long."""

    seconds: float


@dataclass(slots=True)
class Heard:
    """What came of a `Talk`.

    Arguments:
        answers: errors as values; fewer than asked for if the connection was lost.
        lost: what broke it, or why there was none.
        sent: whether anything was sent.
    """

    answers: list[Any]
    lost: RedisError | None = None
    sent: bool = True

    @property
    def wrong_server(self) -> bool:
        """Whether an answer says that the connection leads to the wrong server: it must not be used again."""
        return any(isinstance(answer, RedisError) and elsewhere(answer) for answer in self.answers)

    @staticmethod
    def is_late(began: float) -> bool:
        """Tell whether the answers took so long that another server may be the right one by now.

        Arguments:
            began: when the exchange did, monotonic seconds.
        """
        return time.monotonic() - began > EVERY_S


def replaced() -> Heard:
    """Return what came of a `Talk` with a server that was replaced before it answered."""
    return Heard([], Lost("the server was replaced before it answered: what it confirms now is lost"))


Result = TypeVar("Result")
Steps = Generator[Talk | Pause, Heard | None, Result]
