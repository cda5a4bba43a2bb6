"""Entries of a stream as values, and what of them a handler sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .envelope import AUTO, Envelope
from .envelope import Decode as Decode
from .envelope import DecodeError as DecodeError
from .envelope import Raw as Raw
from .envelope import field as field
from .envelope import text as text
from .letter import DeadLetter
from .letter import parse as parse_letter


def parse_id(entry: bytes) -> tuple[int, int]:
    """Return the milliseconds and the sequence number of an entry id."""
    ms, _, seq = entry.partition(b"-")
    return int(ms), int(seq)


def format_id(entry: tuple[int, int]) -> bytes:
    """Return an entry id as the server writes it."""
    return b"%d-%d" % entry


class Message:
    """One entry, as its handler sees it.

    `data` is the decoded payload and `attempt` counts from 1, with those that its envelope tells of. The
    other parts are made when asked for, from the entry as the server sent it, because most handlers ask for
    few of them.
    """

    __slots__ = ("attempt", "data", "entry")
    attempt: int
    data: Any
    entry: Raw

    stream = ""  # this and the next are set once per worker, by `for_stream`
    envelope: Envelope = AUTO

    def __init__(self, entry: Raw, data: Any, attempt: int = 1) -> None:
        """Wrap an entry as the server sent it."""
        self.entry, self.data, self.attempt = entry, data, attempt

    @classmethod
    def for_stream(cls, stream: str, envelope: Envelope = AUTO) -> Callable[[], Message]:
        """Return what makes messages of this stream, empty: who calls it sets `entry`, `data` and `attempt`.

        For the worker's loop, in which an `__init__` of our own would cost more than all three.
        """
        words = {
            "stream": stream,
            "envelope": envelope,
            "__slots__": (),
            "__module__": cls.__module__,
            "__init__": object.__init__,
        }
        return type(cls.__name__, (cls,), words)

    @property
    def id(self) -> str:
        """The entry's id in the stream."""
        entry: bytes = self.entry[0]
        return entry.decode()

    @property
    def event(self) -> str | None:
        """The name of the event, as the envelope says it; None without one."""
        name = self.envelope.event(self.entry[1])
        return None if name is None else text(name)

    @property
    def key(self) -> str | None:
        """What names the message, the same in every copy of it: `key` or the id in its envelope, or None."""
        name = self.envelope.key(self.entry[1])
        return None if name is None else text(name)

    @property
    def headers(self) -> dict[str, str]:
        """What the envelope says beside data, event and key: our other fields, timestamps."""
        return self.envelope.headers(self.entry[1])

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context in the field `traceparent`, in any envelope; None without one."""
        found = field(self.entry[1], b"traceparent")
        return None if found is None else text(found)

    @property
    def fields(self) -> dict[bytes, bytes]:
        """All fields of the entry as they are in Redis; of fields of one name, the first."""
        flat = self.entry[1]
        return dict(reversed(dict(zip(flat[-2::-2], flat[-1::-2], strict=True)).items()))

    @property
    def letter(self) -> DeadLetter | None:
        """The dead letter in the entry of a dead-letter stream, None when there is none in it."""
        return parse_letter(self.entry[0], self.entry[1])

    @property
    def timestamp(self) -> float:
        """When the entry was added, by the server's clock: seconds since the epoch."""
        return parse_id(self.entry[0])[0] / 1000

    def __repr__(self) -> str:
        """Name the entry, never its payload: a repr ends up in logs."""
        return f"<Message {self.id} of {self.stream} event={self.event!r} attempt={self.attempt}>"
