"""One dead letter: an entry that was moved out of the way, with its story, into a stream of its own.

A letter is an entry of the dead-letter stream. Its first pairs are ours, the fields of the original entry
follow as they were, so that a person sees them in redis-cli:

    rsq:v          1, the version of this format
    rsq:id         id of the original entry
    rsq:stream     stream it came from
    rsq:group      group that gave it up
    rsq:consumer   consumer that owned it
    rsq:attempts   how often its handler was started
    rsq:reason     max_attempts, crash: SIGSEGV, timeout, decode_error, rejected, host lost
    rsq:error      the last error in a line, maybe empty
    rsq:traceback  maybe empty
    rsq:first      time of the first attempt, Unix ms
    rsq:last       time of the last attempt, Unix ms
    rsq:packed     0: the original fields follow; 1: one pair `rsq:fields` follows, which holds them all as a
                   msgpack array [name, value, name, value, ...], for entries with thousands of fields

Reading goes by position, so original fields may have any names, also these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import msgpack

from . import keys, marks, waiting

VERSION = b"1"
META = tuple(
    b"rsq:" + name.encode()
    for name in "v id stream group consumer attempts reason error traceback first last packed".split()  # noqa: SIM905
)
PACKED_FIELD = b"rsq:fields"
ERROR_MAX = 4 * 1024
TRACEBACK_MAX = 32 * 1024

_SCRIPTS = Path(__file__).with_name("scripts")
MAKE = _SCRIPTS.joinpath("letter.lua").read_bytes()  # for the scripts that write letters, to begin with
_WRITE = MAKE + marks.SCRIPT + waiting.script(2, 3) + _SCRIPTS.joinpath("deadletter.lua").read_bytes()


class Written(IntEnum):
    """What the script of `write_command` answers."""

    NOTHING = 0
    """The entry is no longer pending, or belongs to another consumer."""
    LETTER = 1
    """The dead letter is written, the entry acknowledged."""
    LOST = 2
    """The entry had been deleted from the stream: acknowledged without a letter; count it as lost data."""
    BEFORE = 3
    """The same consumer has written the letter before, and the answer was lost."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter; `fields` are those of the original entry, in order, as bytes."""

    id: str
    origin_id: str
    stream: str
    group: str
    consumer: str
    attempts: int
    reason: str
    error: str
    traceback: str
    first_ms: int
    last_ms: int
    fields: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Foreign:
    """An entry of the dead-letter stream that is not a letter of this format; it is never touched unasked."""

    id: str
    fields: tuple[tuple[bytes, bytes], ...]


Entry = DeadLetter | Foreign


def write_command(
    stream: str,
    dlq: str,
    group: str,
    consumer: str,
    entry_id: str | bytes,
    *,
    attempts: int,
    reason: str,
    error: str = "",
    traceback: str = "",
    first_ms: int,
    last_ms: int,
) -> tuple[bytes, ...]:
    """The command that moves a pending entry to the dead letters; it answers with a `Written`.

    EVAL with the whole script: dead letters are rare, and a SCRIPT FLUSH cannot hurt.

    Arguments:
        stream, dlq, group, consumer, entry_id: the entry, and who must own it for anything to happen.
        attempts: how often the handler was started with it.
        reason: see the module.
        error, traceback: cut in the middle to 4 KiB and 32 KiB.
        first_ms, last_ms: when the handler was first and last started with it, Unix ms.
    """
    return (
        *(b"EVAL", _WRITE, b"4", name_bytes(stream), name_bytes(keys.waiting(stream, group))),
        *(name_bytes(keys.stories(stream, group)), name_bytes(dlq)),
        *(
            name_bytes(group),
            name_bytes(consumer),
            entry_id if isinstance(entry_id, bytes) else entry_id.encode(),
        ),
        *(b"%d" % attempts, _text(reason), _cut(error, ERROR_MAX), _cut(traceback, TRACEBACK_MAX)),
        *(b"%d" % first_ms, b"%d" % last_ms),
    )


def parse(entry_id: str | bytes, flat_fields: Sequence[bytes]) -> DeadLetter | None:
    """The letter in an entry of the dead-letter stream, or None if there is none in it; raises nothing.

    Arguments:
        entry_id: its id.
        flat_fields: [name, value, name, value, ...] as the server sends them.
    """
    size = 2 * len(META)
    if len(flat_fields) < size + 2 or tuple(flat_fields[:size:2]) != META or flat_fields[1] != VERSION:
        return None
    meta: dict[bytes, bytes] = dict(zip(META, flat_fields[1:size:2], strict=True))
    try:
        fields = pairs(flat_fields[size:] if meta[b"rsq:packed"] == b"0" else _unpack(flat_fields[size:]))
        return DeadLetter(
            id=text_of(entry_id),
            origin_id=text_of(meta[b"rsq:id"]),
            stream=text_of(meta[b"rsq:stream"]),
            group=text_of(meta[b"rsq:group"]),
            consumer=text_of(meta[b"rsq:consumer"]),
            attempts=int(meta[b"rsq:attempts"]),
            reason=meta[b"rsq:reason"].decode("utf-8", "replace"),
            error=meta[b"rsq:error"].decode("utf-8", "replace"),
            traceback=meta[b"rsq:traceback"].decode("utf-8", "replace"),
            first_ms=int(meta[b"rsq:first"]),
            last_ms=int(meta[b"rsq:last"]),
            fields=fields,
        )
    except Exception:  # whatever somebody else has written there
        return None


def pairs(flat: Sequence[bytes]) -> tuple[tuple[bytes, bytes], ...]:
    """[name, value, name, value, ...] as pairs.

    Raises:
        ValueError: an odd number of them.
    """
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def name_bytes(text: str) -> bytes:
    """A name as the server has it."""
    # Names from a command line may hold bytes that are not UTF-8: Python has them as surrogates.
    return text.encode("utf-8", "surrogateescape")


def text_of(data: str | bytes) -> str:
    """A name or id of the server as text."""
    return data if isinstance(data, str) else data.decode("utf-8", "surrogateescape")


def _text(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _unpack(pair: Sequence[bytes]) -> list[bytes]:
    (name, packed) = pair
    fields = msgpack.unpackb(packed, raw=True)
    if name != PACKED_FIELD or not fields or not all(isinstance(field, bytes) for field in fields):
        raise ValueError("not packed by us")
    return list(fields)


def _cut(text: str, limit: int) -> bytes:
    data = _text(text)
    if len(data) <= limit:
        return data
    marker = b"\n[... %d bytes cut ...]\n" % (len(data) - limit)
    half = (limit - len(marker)) // 2
    # The cuts may fall into characters: drop what is left of those.
    start, end = (part.decode("utf-8", "ignore").encode() for part in (data[:half], data[-half:]))
    return start + marker + end
