"""Once: entries that are not handled, because another copy of the message has been.

Whether one has is asked for a whole batch, in one round trip before it runs; within the batch the journal
knows. The mark is left by the script that acknowledges: a death between the end of the handler and that
script leaves the acknowledgement, and with it the mark, to the successor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from ..ipc.journal import Journal, Outcome
from ..ipc.oncekeys import OnceKeys
from ..ipc.slot import Slot
from ..streams.entry import Raw
from ..streams.envelope import ENVELOPES, Envelope
from ..streams.group import Group
from ..streams.once import Marks, Row
from .recovery import ACKED
from .session import Session
from .spec import Spec
from .verdict import Duplicate
from .ways import Ways


class Once:
    """The marks of one slot's messages."""

    def __init__(
        self,
        lasting_s: Callable[[Raw], float],
        envelope: Envelope,
        group: Group,
        session: Session,
        journal: Journal,
        once_keys: OnceKeys,
    ) -> None:
        """Bring together what it works with.

        Arguments:
            lasting_s: tells for how many seconds the mark of an entry is there; 0: it leaves none.
            envelope: says what a message is known by.
            once_keys: where the keeper finds what the entries of a batch are known by.
        """
        self._lasting_s = lasting_s
        self._envelope, self._group, self._session, self._journal = envelope, group, session, journal
        self._once_keys = once_keys
        self._marks = Marks(group.stream, group.group, group.consumer)
        self._rows: dict[bytes, Row] = {}  # of the batch at hand: id -> the mark that it leaves
        self._places: dict[bytes, int] = {}
        self._known: set[str] = set()
        self._tried: dict[str, int] = {}  # name -> place of the last entry that was to leave this mark

    def begin(self, entries: Sequence[Raw]) -> None:
        """Find out which entries of a batch are copies of what has been handled."""
        rows = self._leaving(entries)
        found = self._session.must(self._marks.look([row.mark for row in rows])) if rows else []
        self._known = {row.mark for row, setter in zip(rows, found, strict=True) if setter is not None}
        self._rows = {row.entry: row for row in rows}
        self._places = {entry[0]: at for at, entry in enumerate(entries)}
        named = ((self._places[row.entry], row.key, row.ttl_ms) for row in rows)
        self._once_keys.write(self._journal.number + 1, named)
        self._tried = {}

    def copies(self, entries: Sequence[Raw]) -> set[bytes]:
        """Return the ids of entries that are copies of others before them in the same list."""
        marks: set[str] = set()
        found: set[bytes] = set()
        for row in self._leaving(entries):
            if row.mark in marks:
                found.add(row.entry)
            marks.add(row.mark)
        return found

    def refuse_copy(self, entry: bytes) -> None:
        """Make sure that an entry of the batch, whose turn it is, is no copy.

        Raises:
            Duplicate: it is.
        """
        if entry not in self._rows:
            return
        name, at = self._rows[entry].mark, self._places[entry]
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
        rows = [self._rows[entry] for entry, code in ended if code == Outcome.DONE and entry in self._rows]
        self._owe(batch, rows, [entry for entry, code in ended if code in ACKED])

    def owe_acks_of(self, batch: int, ids: Sequence[bytes], handled: Collection[bytes]) -> None:
        """Do so for entries that a predecessor has finished; what they are known by is looked up.

        Arguments:
            batch: the number of the newest one.
            ids: of the entries.
            handled: those of them for which a handler has returned.
        """
        done = [entry for entry in ids if entry in handled]
        replies = self._session.call(*map(self._group.look, done)) if done else []
        self._owe(batch, self._leaving([reply[0] for reply in replies if _is_there(reply)]), ids)

    def _owe(self, batch: int, rows: Sequence[Row], ids: Sequence[bytes]) -> None:
        """Owe the acknowledgement of all, and the marks of some of them."""
        if rows:
            self._session.owe_marks(batch, self._marks, rows)
        marked = {row.entry for row in rows}
        if others := [entry for entry in ids if entry not in marked]:
            self._session.owe_ack(batch, self._group, others)

    def _leaving(self, entries: Sequence[Raw]) -> list[Row]:
        """Return the marks that entries leave when they are done; some leave none."""
        rows: list[Row] = []
        for entry in entries:
            if lasting_s := self._lasting_s(entry):
                key = self._envelope.key(entry[1]) or entry[0]
                name, ttl_ms = self._marks.name(key), max(1, round(lasting_s * 1000))
                rows.append(Row(entry[0], name, ttl_ms, key))
        return rows


def of_slot(spec: Spec, slot: Slot, ways: Ways, group: Group, session: Session) -> Once | None:
    """Return the marks of a slot's messages, None where no entry leaves one."""
    slot.once_keys.use(used=ways.remembers)
    if not ways.remembers:
        return None

    def lasting_s(entry: Raw) -> float:
        return ways.of(entry).once_s

    return Once(lasting_s, ENVELOPES[spec.work.envelope], group, session, slot.journal, slot.once_keys)


def _is_there(reply: object) -> bool:
    return isinstance(reply, list) and bool(reply)
