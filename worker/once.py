"""Once: entries that are not handled, because another copy of the message has been.

Whether one has is asked for a whole batch, in one round trip before it runs; within the batch the journal
knows. The mark is left by the script that acknowledges: a death between the end of the handler and that
script leaves the acknowledgement, and with it the mark, to the successor.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ipc.journal import Journal, Outcome
from ..streams.entry import Raw
from ..streams.envelope import Envelope
from ..streams.group import Group
from ..streams.once import Marks, Row
from .recovery import ACKED
from .session import Session
from .verdict import Duplicate


class Once:
    """The marks of one slot's messages."""

    def __init__(
        self, ttl_s: float, envelope: Envelope, group: Group, session: Session, journal: Journal
    ) -> None:
        """Bring together what it works with.

        Arguments:
            ttl_s: seconds for which a mark is there.
            envelope: says what a message is known by.
        """
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._envelope, self._group, self._session, self._journal = envelope, group, session, journal
        self._marks = Marks(group.stream, group.group, group.consumer)
        self._names: dict[bytes, str] = {}  # of the batch at hand: id -> name of its mark
        self._places: dict[bytes, int] = {}
        self._known: set[str] = set()
        self._tried: dict[str, int] = {}  # name -> place of the last entry that was to leave this mark

    def begin(self, entries: Sequence[Raw]) -> None:
        """Find out which entries of a batch are copies of what has been handled."""
        names = [self._name(entry) for entry in entries]
        found = self._session.must(self._marks.look(names))
        self._known = {name for name, setter in zip(names, found, strict=True) if setter is not None}
        self._names = {entry[0]: name for entry, name in zip(entries, names, strict=True)}
        self._places = {entry[0]: at for at, entry in enumerate(entries)}
        self._tried = {}

    def copies(self, entries: Sequence[Raw]) -> set[bytes]:
        """Return the ids of entries that are copies of others before them in the same list."""
        names: set[str] = set()
        found: set[bytes] = set()
        for entry in entries:
            name = self._name(entry)
            if name in names:
                found.add(entry[0])
            names.add(name)
        return found

    def refuse_copy(self, entry: bytes) -> None:
        """Make sure that an entry of the batch, whose turn it is, is no copy.

        Raises:
            Duplicate: it is.
        """
        name, at = self._names[entry], self._places[entry]
        before = self._tried.get(name)
        if before is not None and self._journal.outcomes[before] == Outcome.DONE:
            self._known.add(name)
        if name in self._known:
            raise Duplicate
        self._tried[name] = at

    def owe_acks(self, batch: int, ids: Sequence[bytes], outcomes: bytes) -> None:
        """Owe the acknowledgements of what a chunk has finished, and the marks of what was handled.

        Arguments:
            batch: its number in the journal.
            ids: of the entries in the chunk.
            outcomes: how each of them ended.
        """
        ended = list(zip(ids, outcomes, strict=True))
        done = [entry for entry, code in ended if code == Outcome.DONE]
        self._owe(batch, [Row(entry, self._names[entry], self._ttl_ms) for entry in done])
        if others := [entry for entry, code in ended if code in ACKED and code != Outcome.DONE]:
            self._session.owe_ack(batch, self._group, others)

    def owe_acks_of(self, batch: int, ids: Sequence[bytes]) -> None:
        """Do so for entries that a predecessor has finished; what they are known by is looked up."""
        replies = self._session.call(*map(self._group.look, ids))
        found = {entry: reply[0] for entry, reply in zip(ids, replies, strict=True) if _is_there(reply)}
        self._owe(batch, [Row(entry, self._name(raw), self._ttl_ms) for entry, raw in found.items()])
        if others := [entry for entry in ids if entry not in found]:
            self._session.owe_ack(batch, self._group, others)

    def _owe(self, batch: int, rows: Sequence[Row]) -> None:
        if rows:
            self._session.owe_marks(batch, self._marks, rows)

    def _name(self, entry: Raw) -> str:
        return self._marks.name(self._envelope.key(entry[1]) or entry[0])


def _is_there(reply: object) -> bool:
    return isinstance(reply, list) and bool(reply)
