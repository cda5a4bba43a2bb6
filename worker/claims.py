"""Claims: own pending entries whose payload has to be fetched again, and handled.

Retries that are due, what a predecessor or a broken connection left, and suspects, one at a time.
What is not ours any more is dropped here; what is deleted from the stream is counted as lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

from ..ipc.cells import D
from ..ipc.journal import Outcome
from ..ipc.slot import Slot
from ..streams.entry import Raw
from ..streams.group import Claimed, Group
from .books import Books
from .recovery import handled
from .runner import Runner
from .session import Session
from .shelf import Letter, Shelf
from .stories import Stories
from .taken import TAKEN
from .ways import Ways


class Siblings(Protocol):
    """The other slots of the pool."""

    @property
    def wanted(self) -> int:
        """How many slots the pool is to have."""

    def any_idle(self) -> bool:
        """Tell whether another slot of the pool waits for work."""

    def lock_closed(self, slot: int) -> bool:
        """Take a slot's lock if its last process has ended in good order."""

    def lock_lane(self) -> bool:
        """Become the one slot of the pool that runs a suspect's last attempt."""

    def unlock_lane(self) -> None:
        """Let another slot do so."""

    def waiting(self, slot: int) -> Mapping[bytes, tuple[int, float]]:
        """What is in the waiting table of a slot whose lock we have."""

    def stories(self, slot: int) -> Stories:
        """What a slot keeps of dead letters that are not written yet: ours, or one whose lock we have."""

    def unlock(self, slot: int) -> None:
        """Give the lock back."""


class Claims:
    """Fetches pending entries of one slot and runs them."""

    def __init__(
        self,
        slot: Slot,
        siblings: Siblings,
        group: Group,
        session: Session,
        shelf: Shelf,
        books: Books,
        runner: Runner,
        kept: dict[bytes, Raw],
        ways: Ways,
    ) -> None:
        """Bring together what a claim passes through.

        Arguments:
            kept: what of it came before and was not started, with its payload.
            ways: of entries.
        """
        self._kept = kept
        self._desk, self._loans, self._ways = slot.desk.view, slot.loans, ways
        self._journal = slot.journal
        self._siblings, self._group, self._session = siblings, group, session
        self._shelf, self._books, self._runner = shelf, books, runner

    def run(self, wanted: list[tuple[bytes, int]], *, alone: bool = False) -> None:
        """Fetch (id, attempt) of held entries, with their counters as given, and handle them.

        `alone`: it is one entry, and it waits for no others.

        When the connection breaks on the way, the audit after it finds those that were not started.
        """
        self._desk[D.SETTLED] = 0
        attempts = dict(wanted)
        kept = {entry: self._kept.pop(entry) for entry in attempts.keys() & self._kept.keys()}
        self._run(attempts, self._session.in_parts(attempts, self._group.claim), kept, alone=alone)

    def run_suspect(self, suspects: deque[tuple[bytes, int]]) -> bool:
        """Handle the oldest suspect, nothing else in hand; False while another slot must be waited for.

        Arguments:
            suspects: (id, attempt) of entries that rest; the first is taken off.
        """
        entry, attempt = suspects[0]
        most = self._ways.retries(entry, self._look).max_attempts
        last = attempt == most
        if last and not self._siblings.lock_lane():
            return False
        try:
            suspects.popleft()
            self._desk[D.SETTLED] = 0
            self._books.note_claim([entry], [attempt])
            results = self._session.must(self._group.claim_suspect(entry, attempt))
            if attempt > most and not isinstance(results[0], int):
                self._bury(entry, attempt - 1)
            else:
                self._run({entry: attempt}, results, {}, alone=True, resting=True)
            self._session.send()
            self._session.settle()
        finally:
            if last:
                self._siblings.unlock_lane()
        return True

    def _look(self, entry: bytes) -> Raw | None:
        found: list[Raw] = self._session.must(self._group.look(entry))
        return found[0] if found else None

    def _bury(self, entry: bytes, attempts: int) -> None:
        """Dead-letter a suspect whose event has fewer attempts than others: the leader could not know."""
        words = "the host was lost while it handled this entry, or had it in hand"
        letter = Letter(entry, attempts, Outcome.DEAD_CRASH, "host lost", words, "")
        self._books.finish([entry], [attempts], letter.outcome, {0: letter})

    def _is_lost(self, entry: bytes, result: int) -> bool:
        """Tell of what is pending nowhere whether nobody of ours can have finished it."""
        if not self._session.unchanged or entry not in self._loans:
            return self._session.unchanged
        return result == Claimed.ALL_TAKEN and self._loans.entries()[entry]

    def _is_done(self, entry: bytes) -> bool:
        """Tell whether the journal still names an entry as handled."""
        return entry in handled(self._journal.batches())

    def _run(
        self,
        attempts: dict[bytes, int],
        results: list[Any],
        kept: Mapping[bytes, Raw],
        *,
        alone: bool = False,
        resting: bool = False,
    ) -> None:
        """Handle what was claimed; `resting`: others may have claimed it, and finished it."""
        again = resting or self._session.regrouped  # it may have been delivered to others since
        over = (Claimed.GONE,) if again else (Claimed.GONE, *TAKEN)
        found: list[Raw] = []
        lost: list[tuple[bytes, int]] = []
        others: list[bytes] = []
        for (entry, attempt), result in zip(attempts.items(), results, strict=True):
            if not isinstance(result, int):
                found.append(result)
            elif result == Claimed.DELETED and entry in kept:
                found.append(kept[entry])  # it was ours up to now, and nobody else can have it any more
            elif result in TAKEN and self._is_done(entry):
                others.append(entry)
            elif result in TAKEN and entry in kept and self._is_lost(entry, result):
                found.append(kept[entry])  # somebody has taken it off the list, but it is in hand
            elif result == Claimed.DELETED or (result in over and self._is_lost(entry, result)):
                lost.append((entry, attempt))
            else:
                others.append(entry)
        self._shelf.forget(others)
        if lost:
            self._books.lose(lost)
        if found:
            self._runner.run(found, [attempts[entry[0]] for entry in found], alone=alone)
