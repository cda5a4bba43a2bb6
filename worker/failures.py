"""The failures of the newest batch: written down at once, told to Redis together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from time import monotonic

from ..ipc.journal import Journal, Outcome
from ..streams.entry import Raw
from ..streams.envelope import Envelope
from ..streams.group import SCRIPT_MAX, Group
from .books import Books
from .session import Session
from .shelf import Letter, Shelf
from .spec import Retries
from .verdict import Verdict


class Failures:
    """What failed, and what Redis has to know of it."""

    def __init__(
        self,
        journal: Journal,
        group: Group,
        session: Session,
        shelf: Shelf,
        books: Books,
        envelope: Envelope,
    ) -> None:
        """Bring together where a failure is written."""
        self._envelope = envelope
        self._journal, self._group, self._session = journal, group, session
        self._shelf, self._books = shelf, books
        self._letters: dict[int, Letter] = {}
        self._again: dict[bytes, tuple[int, float]] = {}  # id -> number of the next attempt, due: monotonic

    @property
    def has_letters(self) -> bool:
        """Tell whether there is a story that is in this process alone: user code may end it."""
        return bool(self._letters)

    def note(
        self,
        at: int,
        entry: Raw,
        attempt: int,
        earlier: int,
        retries: Retries,
        verdict: Verdict,
        words: str,
        trace: str,
    ) -> None:
        """Write down a failed attempt: on the shelf first, then in the journal.

        Arguments:
            at: place in the newest batch.
            entry, attempt: what failed.
            earlier: how often others had tried it before, as its envelope says.
            retries: by which it was judged.
            verdict: what becomes of it.
            words, trace: the error.
        """
        event = self._envelope.event(entry[1])
        if verdict.outcome is Outcome.WAITING:
            due = monotonic() + verdict.delay_s
            self._shelf.put(entry[0], attempt + 1, due)
            self._again[entry[0]] = attempt + 1, due
        else:
            self._letters[at] = Letter(
                entry[0], attempt, verdict.outcome, verdict.reason, words, trace, earlier, event,
                retries.max_attempts,
            )  # fmt: skip
        self._journal.outcomes[at] = verdict.outcome
        if verdict.outcome is Outcome.WAITING:  # of a dead letter is told when it is written
            self._books.report(
                entry[0], attempt + earlier, retries.max_attempts, verdict, words, trace, event
            )

    def defer(self, entry: bytes, attempt: int) -> None:
        """Note that an entry was not started: it waits for its circuit breaker."""
        self._again[entry] = attempt, 0.0

    def tell(self, number: int) -> None:
        """Write the dead letters now, and the counters and records of what waits with the next write.

        Arguments:
            number: of the newest batch.
        """
        if self._letters:
            letters, self._letters = self._letters, {}
            self._books.bury(letters)
        if self._again:
            again, self._again = self._again, {}
            for part in parts(again):
                self._session.owe(number, partial(self._let_wait, part))

    def _let_wait(self, rows: Mapping[bytes, tuple[int, float]]) -> bytes:
        return self._group.let_wait(left(rows))


def parts(rows: Mapping[bytes, tuple[int, float]]) -> Iterator[dict[bytes, tuple[int, float]]]:
    """Return rows in parts, each for one script."""
    items = iter(rows.items())
    while part := dict(islice(items, SCRIPT_MAX)):
        yield part


def left(rows: Mapping[bytes, tuple[int, float]]) -> dict[bytes, tuple[int, float]]:
    """Return id -> (attempt, seconds left) of id -> (attempt, due in monotonic seconds)."""
    now = monotonic()
    return {entry: (attempt, max(0.0, due - now)) for entry, (attempt, due) in rows.items()}
