"""What pushes look like on the wire. Pure.

An entry has the field `data`, the encoded message, and after it `key`, `event` and `traceparent` where the
message has them.

What is the same for every message of a batch is made once, and a message is one piece of bytes, so that a
batch is one `join`: redis-py's pipeline costs several times that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .lanes import Lane
from .letter import name_bytes

_PUSH = Path(__file__).with_name("scripts").joinpath("push.lua").read_bytes()
_DATA = b"$4\r\ndata\r\n$"
SENT_MS = 600_000  # far beyond the time in which anything is sent again


class Frame:
    """The messages of one call: what they have in common."""

    def __init__(
        self, event: str | None = None, traceparent: str | None = None, *, keyed: bool = False
    ) -> None:
        """Take what is the same for all of them.

        Arguments:
            event, traceparent: fields of every message.
            keyed: whether each has a key, given to `piece`.
        """
        common: list[bytes] = []
        self._common = common
        if event is not None:
            common += (b"event", name_bytes(event))
        if traceparent is not None:
            common += (b"traceparent", name_bytes(traceparent))
        self.width = 2 + len(common) + 2 * keyed  # words of a message
        self._tail = words(common)

    def fields(self, payload: bytes, key: str | None = None) -> list[bytes]:
        """Return a message as the fields of an entry."""
        return [b"data", payload, *(() if key is None else (b"key", name_bytes(key))), *self._common]

    def piece(self, payload: bytes, key: str | None = None) -> bytes:
        """Return a message, from the length of its payload on."""
        if key is None:
            return b"%d\r\n%s\r\n%s" % (len(payload), payload, self._tail)
        return b"%d\r\n%s\r\n%s%s" % (len(payload), payload, words((b"key", name_bytes(key))), self._tail)


def adds(stream: bytes, trim: Sequence[bytes], frame: Frame) -> bytes:
    """Return what stands before every piece: one XADD each."""
    head = (b"XADD", stream, *trim, b"*")
    return b"*%d\r\n%s%s" % (len(head) + frame.width, words(head), _DATA)


def adds_once(
    stream: bytes, trim: Sequence[bytes], frame: Frame, pieces: Sequence[bytes], lane: Lane, most: int
) -> list[bytes]:
    """Return whole commands that may be sent again: one XADD with IDMP each.

    Arguments:
        stream, trim, frame, pieces: what to add.
        lane: of the exchange, named.
        most: how many ids the server remembers of one producer; a batch of more takes several.
    """
    count = b"*%d\r\n" % (len(trim) + 6 + frame.width)
    key, rest, token = words((b"XADD", stream)), words((*trim, b"*")) + _DATA, lane.token.encode()
    commands = []
    for at, piece in enumerate(pieces):
        name = f"{lane.producer}.{at // most}".encode()
        once = words((b"IDMP", name, b"%s.%d.%d" % (token, lane.number, at % most)))
        commands.append(b"%s%s%s%s%s" % (count, key, once, rest, piece))
    return commands


def script(
    keys: Sequence[str],
    lane: Lane,
    rule: bytes,
    most: int,
    unique_ms: int,
    frame: Frame,
    pieces: Sequence[bytes],
) -> bytes:
    """Return the call of push.lua, which adds all pieces or says why not; see there."""
    head = [b"EVAL", _PUSH, b"%d" % len(keys), *map(name_bytes, keys)]
    head += [b"%d" % lane.number, b"%d" % SENT_MS, rule, b"%d" % most, b"%d" % unique_ms, b"%d" % frame.width]
    count = len(head) + frame.width * len(pieces)
    return b"*%d\r\n%s%s" % (count, words(head), _DATA.join((b"", *pieces)))


def command(*parts: bytes) -> bytes:
    """Return one command."""
    return b"*%d\r\n%s" % (len(parts), words(parts))


def words(parts: Sequence[bytes]) -> bytes:
    """Return parts of a command as the server reads them."""
    return b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
