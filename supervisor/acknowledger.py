"""The acknowledger: what a slot has finished is acknowledged while another entry of the slot takes long.

A worker acknowledges between two entries. What it finished before a long one of the same batch, and what
the call of a batch handler has marked as done, would stay pending until the long one ends, and would run
again if the host were lost. So the keeper acknowledges what the journal says is finished, as the slot's
consumer and only while that consumer owns it. The worker does it again later, which changes nothing.
Nothing is counted here: the counters follow from journal and ledger, whoever has acknowledged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..ipc.cells import D, Part
from ..ipc.fence import Fence
from ..ipc.journal import Batch, Outcome
from ..ipc.slot import Slot
from ..streams import keys
from ..streams.group import Group
from ..streams.once import Marks, Row
from ..streams.wire import Lost, WrongServer
from ..worker.recovery import ACKED
from ..worker.spec import Source
from .complaints import LASTS_S, Complaints
from .line import Line

LATE_S = 0.05  # what was finished so long ago is acknowledged here: most entries are over by then
_TROUBLE_S = 1.0
_PAGE = 200  # entries that one script acknowledges


@dataclass(slots=True)
class _Seen:
    """What is known of the newest batch of a slot.

    Arguments:
        batch: its number.
        acked: places that are acknowledged, or are not for us to acknowledge.
        due: when there is something to acknowledge, monotonic seconds; infinity: there is nothing.
    """

    batch: int
    acked: set[int] = field(default_factory=set)
    due: float = math.inf


class Refused(Lost):
    """The server answered with an error."""


class Acknowledger:
    """Acknowledges for the slots of one pool."""

    def __init__(
        self, source: Source, fence: Fence, line: Line, complaints: Complaints | None = None
    ) -> None:
        """Look at nothing yet.

        Arguments:
            source: whose entries these are.
            fence: of the pool: nothing is sent without its lease.
            line: to the server.
            complaints: where errors go.
        """
        self._complaints = complaints or Complaints("")
        self._source, self._fence, self._line = source, fence, line
        self._seen: dict[int, _Seen] = {}
        self._slots: dict[int, Slot] = {}
        self._not_before = 0.0  # after trouble, monotonic

    @property
    def due(self) -> float:
        """Return when there is something to send, in monotonic seconds; infinity: when a slot has more."""
        return max(self._not_before, min((seen.due for seen in self._seen.values()), default=math.inf))

    def look(self, number: int, slot: Slot, now: float) -> None:
        """Find out whether a slot runs something while others of its batch are finished.

        Arguments:
            number: of the slot.
            slot: its memory.
            now: monotonic seconds.
        """
        ended = slot.journal.ended() if slot.desk.view[D.RUNNING] == 1 else None
        if ended is None:
            self._seen.pop(number, None)
            return
        batch, places, since = ended
        seen = self._seen.get(number)
        if seen is None or seen.batch != batch:
            seen = self._seen[number] = _Seen(batch)
            self._slots[number] = slot
        if len(places) <= len(seen.acked):
            seen.due = math.inf
        elif seen.due == math.inf:
            seen.due = (now if since is None else since) + LATE_S

    def send(self, now: float) -> None:
        """Acknowledge what is due."""
        if now < self.due or not self._fence.holds:
            return
        try:
            self._send(now)
        except Lost as error:
            answered = isinstance(error, (Refused, WrongServer))
            self._complaints.add(Part.ACKS, error, after_s=0.0 if answered else LASTS_S)
            self._not_before = now + _TROUBLE_S

    def _send(self, now: float) -> None:
        sent: list[tuple[_Seen, list[int]]] = []
        commands: list[bytes] = []
        for number, seen in self._seen.items():
            if seen.due > now:
                continue
            slot, seen.due = self._slots[number], math.inf
            batch = next((one for one in slot.journal.batches() if one.number == seen.batch), None)
            if batch is None:
                continue
            ended = [at for at, end in enumerate(batch.ends) if end is not None and at not in seen.acked]
            for page in (ended[at : at + _PAGE] for at in range(0, len(ended), _PAGE)):
                packed = self._commands(keys.consumer(self._source.instance, number), slot, batch, page)
                if packed is not None:
                    sent.append((seen, page))
                    commands += packed
        replies = self._call(commands) if commands else []
        refused = [reply for reply in replies if isinstance(reply, Exception)]
        if refused:
            raise Refused(str(refused[0]))
        if commands:
            self._complaints.over(Part.ACKS)
        for seen, page in sent:
            seen.acked.update(page)

    def _call(self, commands: Sequence[bytes]) -> list[Any]:
        if not self._line.connect(rest=False):
            raise Lost(self._line.trouble)
        return self._line.call(*commands)

    def _commands(self, consumer: str, slot: Slot, batch: Batch, page: Sequence[int]) -> list[bytes] | None:
        """Return what acknowledges the entries at some places, and leaves their marks in the same command.

        None when the worker has gone on to another batch. One whose key found no room is left to the worker.
        """
        source = self._source
        marked: dict[int, tuple[bytes, int] | None] = {}
        if slot.once_keys.used:
            found = slot.once_keys.read(batch.number)
            if found is None:
                return None
            marked = found
        marks = Marks(source.stream, source.group, consumer)
        rows: list[Row] = []
        plain: list[bytes] = []
        for at in page:
            if batch.ends[at] not in ACKED:
                continue
            if batch.ends[at] is not Outcome.DONE or at not in marked:
                plain.append(batch.ids[at])
            elif (row := marked[at]) is not None:
                rows.append(Row(batch.ids[at], marks.name(row[0]), row[1], row[0]))
        packed = [marks.ack_own(rows)] if rows else []
        if plain:
            packed.append(Group(source.stream, source.group, consumer).ack_own(plain))
        return packed
