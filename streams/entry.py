"""Entries of a stream as values, and what of them a handler sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Raw = list[Any]  # [id, [field, value, field, value, ...]] as the server sends it, all bytes
Decode = Callable[[bytes], Any]


class DecodeError(ValueError):
    """The payload of an entry is not what the serializer expects."""


def parse_id(entry: bytes) -> tuple[int, int]:
    """Return the milliseconds and the sequence number of an entry id."""
    ms, _, seq = entry.partition(b"-")
    return int(ms), int(seq)


def format_id(entry: tuple[int, int]) -> bytes:
    """Return an entry id as the server writes it."""
    return b"%d-%d" % entry


def field(fields: Raw, name: bytes) -> bytes | None:
    """Return the value of the first field of this name, None when there is none."""
    for at in range(0, len(fields), 2):
        if fields[at] == name:
            value: bytes = fields[at + 1]
            return value
    return None


def payload(fields: Raw, decode: Decode) -> Any:
    """Return what a message's `data` is.

    The decoded `data` field where there is one; else the fields themselves as a dict of strings, so
    that entries written with a plain XADD need no settings.

    Raises:
        DecodeError: the serializer refuses the bytes.
    """
    data = field(fields, b"data")
    if data is None:
        return {text(fields[at]): text(fields[at + 1]) for at in range(0, len(fields), 2)}
    try:
        return decode(data)
    except Exception as error:
        raise DecodeError(f"{type(error).__name__}: {error}") from error


def text(raw: bytes) -> str:
    """Return bytes as text; what is not UTF-8 is written as an escape, never an error."""
    return raw.decode("utf-8", "backslashreplace")


class Message:
    """One entry, as its handler sees it.

    `data` is the decoded payload and `attempt` counts from 1. The other parts are made when asked
    for, from the entry as the server sent it, because most handlers ask for few of them.
    """

    __slots__ = ("attempt", "data", "entry")
    attempt: int
    data: Any
    entry: Raw

    stream = ""  # set once per worker, by `for_stream`

    def __init__(self, entry: Raw, data: Any, attempt: int = 1) -> None:
        """Wrap an entry as the server sent it."""
        self.entry, self.data, self.attempt = entry, data, attempt

    @classmethod
    def for_stream(cls, stream: str) -> Callable[[], Message]:
        """Return what makes messages of this stream, empty: who calls it sets `entry`, `data` and `attempt`.

        For the worker's loop, in which an `__init__` of our own would cost more than all three.
        """
        words = {"stream": stream, "__slots__": (), "__module__": cls.__module__, "__init__": object.__init__}
        return type(cls.__name__, (cls,), words)

    @property
    def id(self) -> str:
        """The entry's id in the stream."""
        entry: bytes = self.entry[0]
        return entry.decode()

    @property
    def event(self) -> str | None:
        """The name in the field `event`, None without one."""
        name = field(self.entry[1], b"event")
        return None if name is None else text(name)

    @property
    def fields(self) -> dict[bytes, bytes]:
        """All fields of the entry as they are in Redis; of fields of one name, the first."""
        flat = self.entry[1]
        return dict(reversed(dict(zip(flat[-2::-2], flat[-1::-2], strict=True)).items()))

    @property
    def timestamp(self) -> float:
        """When the entry was added, by the server's clock: seconds since the epoch."""
        return parse_id(self.entry[0])[0] / 1000

    def __repr__(self) -> str:
        """Name the entry, never its payload: a repr ends up in logs."""
        return f"<Message {self.id} of {self.stream} event={self.event!r} attempt={self.attempt}>"
