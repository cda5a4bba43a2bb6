"""Envelopes: how a message lies in the fields of an entry.

    rsq       ours: the payload in `data`; where there is one, `event`, `key` (which message this is, however
              often it is added), and headers: all other fields
    data      redis-stream-queue's: the payload in `data`; other fields mean nothing
    streamix  streamix-queue's: `message`, a JSON object of id, event, data, retries and timestamps
    fields    none: the fields themselves are the message, and `event` among them names its event
    auto      found out for each entry: `data` makes it ours, such a `message` streamix-queue's, else fields

Where an envelope has `data`, the serializer reads it. streamix-queue's is JSON to its core, and plain fields
are text: no serializer is asked.

Of a dead letter each tells what the original entry has, but not its attempts nor its key: the letter has not
been tried before, and is a message for itself.

Nothing but `DecodeError` comes from here, whatever is in the fields; and only from `unwrap`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from . import serializers
from .letter import META, parse

Raw = list[Any]  # [id, [field, value, field, value, ...]] as the server sends it, all bytes
Decode = Callable[[bytes], Any]

RETRIES_MAX = 10**6  # as many attempts as an entry can be given
_WRAPPED = ("id", "event", "data", "retries", "timestamps")
_NAMES_SHOWN = 8
_NAME_SHOWN = 40
_json = serializers.load("json").decode


class DecodeError(ValueError):
    """An entry is not in the envelope that is expected, or its payload not what the serializer expects."""


class Content(NamedTuple):
    """What was in an envelope.

    Arguments:
        payload: for the serializer; None when there is nothing left for it to do.
        data: the message's data when there is no payload.
        retries: attempts that others have made, as the envelope says.
        letter: it is a dead letter's: where the serializer refuses the payload, the bytes are the data. They
            may be why it is one.
    """

    payload: bytes | None
    data: Any = None
    retries: int = 0
    letter: bool = False

    def decoded(self, decode: Decode) -> Any:
        """Return the message's data.

        Arguments:
            decode: of the serializer; what it raises is raised.
        """
        if self.payload is None:
            return self.data
        try:
            return decode(self.payload)
        except MemoryError:
            raise
        except Exception:
            if self.letter:
                return self.payload
            raise


def field(fields: Raw, name: bytes) -> bytes | None:
    """Return the value of the first field of this name, None when there is none."""
    for at in range(0, len(fields), 2):
        if fields[at] == name:
            value: bytes = fields[at + 1]
            return value
    return None


def text(raw: bytes) -> str:
    """Return bytes as text; what is not UTF-8 is written as an escape, never an error."""
    return raw.decode("utf-8", "backslashreplace")


class Envelope:
    """One kind; this one is `fields`.

    Attributes:
        first: name that says, of an entry's first field, that its value is the payload and all that `unwrap`
            would find; None if no name says so.
        counts: retries may be in it.
    """

    name = "fields"
    first: bytes | None = None
    counts = False

    def unwrap(self, fields: Raw) -> Content:
        """Return what is in it.

        Raises:
            DecodeError: it is another envelope, or a damaged one.
        """
        found: dict[str, str] = {}
        for at in range(0, len(fields), 2):
            found.setdefault(text(fields[at]), text(fields[at + 1]))
        return Content(None, found)

    def event(self, fields: Raw) -> bytes | None:
        """Return the name of the event, None without one."""
        return field(fields, b"event")

    def key(self, fields: Raw) -> bytes | None:
        """Return what names the message, the same in every copy of it; None without such a thing."""
        return None

    def retries(self, fields: Raw) -> int:
        """Return how many attempts others have made; 0 where nothing is said."""
        return 0

    def headers(self, fields: Raw) -> dict[str, str]:
        """Return what it says beside data, event and key."""
        return {}


class _Data(Envelope):
    name, first = "data", b"data"

    def unwrap(self, fields: Raw) -> Content:
        data = field(fields, b"data")
        if data is None:
            raise _mismatch(self.name, "a field `data`", fields)
        return Content(data)

    def event(self, fields: Raw) -> bytes | None:
        return None


class _Ours(_Data):
    name = "rsq"

    def event(self, fields: Raw) -> bytes | None:
        return field(fields, b"event")

    def key(self, fields: Raw) -> bytes | None:
        return field(fields, b"key")

    def headers(self, fields: Raw) -> dict[str, str]:
        return _others(fields, (b"data", b"event", b"key"))


class _Streamix(Envelope):
    name, counts = "streamix", True

    def unwrap(self, fields: Raw) -> Content:
        told = _wrapped(fields)
        if told is None:
            wanted = f"a field `message` with a JSON object of {', '.join(_WRAPPED)}"
            raise _mismatch(self.name, wanted, fields)
        for name in ("id", "event"):
            if not told[name] or not isinstance(told[name], str):
                raise DecodeError(f"streamix envelope: `{name}` must be a text that is not empty")
        retries = _count(told["retries"])
        if retries is None:
            raise DecodeError("streamix envelope: `retries` must be a number")
        return Content(None, told["data"], retries)

    def event(self, fields: Raw) -> bytes | None:
        return _name(fields, "event")

    def key(self, fields: Raw) -> bytes | None:
        return _name(fields, "id")

    def retries(self, fields: Raw) -> int:
        told = _wrapped(fields)
        return 0 if told is None else _count(told["retries"]) or 0

    def headers(self, fields: Raw) -> dict[str, str]:
        told = _wrapped(fields) or {}
        times = told.get("timestamps")
        found = times if isinstance(times, dict) else {}
        return _others(fields, (b"message",)) | {
            name: value for name, value in found.items() if isinstance(value, str)
        }


class _Auto(Envelope):
    name, first, counts = "auto", b"data", True

    def unwrap(self, fields: Raw) -> Content:
        return _kind(fields).unwrap(fields)

    def event(self, fields: Raw) -> bytes | None:
        return _kind(fields).event(fields)

    def key(self, fields: Raw) -> bytes | None:
        return _kind(fields).key(fields)

    def retries(self, fields: Raw) -> int:
        return _kind(fields).retries(fields)

    def headers(self, fields: Raw) -> dict[str, str]:
        return _kind(fields).headers(fields)


class _Lettered(Envelope):
    """One of the others, in dead letters too; in one about a dead letter, that of the first entry."""

    def __init__(self, kind: Envelope) -> None:
        self._kind = kind
        self.name, self.first, self.counts = kind.name, kind.first, kind.counts

    def unwrap(self, fields: Raw) -> Content:
        original = _original(fields)
        if original is None:
            return self._kind.unwrap(fields)
        try:
            return self._kind.unwrap(original)._replace(retries=0, letter=True)
        except DecodeError:
            data = field(original, b"data")
            return Content(None, _FIELDS.unwrap(original).data if data is None else data)

    def event(self, fields: Raw) -> bytes | None:
        return self._kind.event(_original(fields) or fields)

    def key(self, fields: Raw) -> bytes | None:
        return self._kind.key(fields) if _original(fields) is None else None

    def retries(self, fields: Raw) -> int:
        return self._kind.retries(fields) if _original(fields) is None else 0

    def headers(self, fields: Raw) -> dict[str, str]:
        return self._kind.headers(_original(fields) or fields)


_FIELDS, _OURS, _STREAMIX = Envelope(), _Ours(), _Streamix()
AUTO: Envelope = _Lettered(_Auto())
ENVELOPES: Mapping[str, Envelope] = {
    AUTO.name: AUTO, **{kind.name: _Lettered(kind) for kind in (_OURS, _Data(), _STREAMIX, _FIELDS)}
}  # fmt: skip


def _original(fields: Raw) -> Raw | None:
    """Return the fields of the entry that a dead letter is about, None when it is none."""
    found = None
    while fields[0] == META[0] and (letter := parse(b"", fields)) and letter.fields:
        fields = found = [part for pair in letter.fields for part in pair]
    return found


def _kind(fields: Raw) -> Envelope:
    """Return the envelope of an entry, from its fields alone."""
    if fields[0] == b"data" or field(fields, b"data") is not None:
        return _OURS
    return _FIELDS if _wrapped(fields) is None else _STREAMIX


def _wrapped(fields: Raw) -> dict[str, Any] | None:
    """Return the object in the field `message`, None when none of streamix-queue's is there."""
    raw = field(fields, b"message")
    if raw is None or raw.lstrip()[:1] != b"{":  # cheap for a message that is plain text
        return None
    try:
        told = _json(raw)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and all(name in told for name in _WRAPPED) else None


def _name(fields: Raw, name: str) -> bytes | None:
    value = (_wrapped(fields) or {}).get(name)
    # JSON may name half a surrogate pair, which UTF-8 has no bytes for.
    return value.encode("utf-8", "backslashreplace") if value and isinstance(value, str) else None


def _count(value: Any) -> int | None:
    try:
        return max(0, min(int(value), RETRIES_MAX))
    except (TypeError, ValueError, OverflowError):
        return None


def _others(fields: Raw, known: tuple[bytes, ...]) -> dict[str, str]:
    # From the end: of fields of one name, the first holds.
    rest = ((fields[at], fields[at + 1]) for at in range(len(fields) - 2, -1, -2))
    return {text(name): text(value) for name, value in rest if name not in known}


def _mismatch(expected: str, wanted: str, fields: Raw) -> DecodeError:
    names = [text(name[:_NAME_SHOWN]) for name in fields[: 2 * _NAMES_SHOWN : 2]]
    more = ", ..." if len(fields) > 2 * _NAMES_SHOWN else ""
    found = f"{', '.join(names)}{more}"
    return DecodeError(f"expected the envelope {expected}, {wanted}; found the fields {found}")
