"""Patience with a server in trouble: how long until the next try, and what is worth saying again."""

from __future__ import annotations

import math
import random

_SAY_AGAIN_S = 30.0


class Patience:
    """Backoff with jitter over the troubles that come in a row."""

    def __init__(self, first_s: float, max_s: float) -> None:
        """Begin without a trouble.

        Arguments:
            first_s: pause after the first trouble, on average; it doubles with each that follows.
            max_s: where it stops growing.
        """
        self._first_s, self._max_s = first_s, max_s
        self.restored()

    def restored(self) -> None:
        """Begin anew: what comes next is another trouble."""
        self._pause_s, self._said, self._said_at = self._first_s, "", -math.inf

    def pause_s(self) -> float:
        """Return the seconds to wait before the next try."""
        pause, self._pause_s = self._pause_s, min(self._pause_s * 2, self._max_s)
        return pause * (0.5 + random.random())  # noqa: S311 - jitter

    def is_news(self, words: str, now: float) -> bool:
        """Tell whether to say this: it is something else than the last time, or that is long ago.

        Arguments:
            words: what would be said.
            now: monotonic seconds.
        """
        if words == self._said and now - self._said_at < _SAY_AGAIN_S:
            return False
        self._said, self._said_at = words, now
        return True
