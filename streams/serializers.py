"""What turns a value into the bytes of a message and back.

    json          written by orjson, read by msgspec; what they refuse goes through the standard library
    msgpack       bytes stay bytes, text stays text
    raw           bytes as they are; text is written as UTF-8
    pickle        runs code from the message when it is read: only with `allow_pickle`
    module:Class  yours, made once without arguments; anything with `encode` and `decode`

What was pushed is what a handler gets, or it is refused, or it is converted as the tables in docs/messages.md
say, which a test reads: never another value without a word. JSON is not read by orjson because it makes
floats of integers beyond 64 bits.

Decoding runs once per message in the hot loop, which keeps `quick` of the serializer in a local variable: a
plain function, for json `msgspec.json.decode` itself.
"""

import importlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import msgpack
import msgspec

from . import jsontext

REFUSED = (ValueError, msgspec.MsgspecError)  # some versions of msgspec have errors that are no ValueError


class Serializer(Protocol):
    """What `module:Class` must offer; both may raise anything for what they cannot convert."""

    def encode(self, value: Any) -> bytes:
        """The bytes that stand for a value in a message."""

    def decode(self, data: bytes) -> Any:
        """The value that bytes of a message stand for."""


@dataclass(frozen=True, slots=True)
class _Pair:
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def load(name: str, *, allow_pickle: bool = False) -> Serializer:
    """The serializer of a name.

    Arguments:
        name: `json`, `msgpack`, `raw`, `pickle` or `module:Class`.
        allow_pickle: whether who may write to the stream may also run code in its readers.

    Raises:
        ValueError: one line: unknown, refused, or what the import of `module:Class` failed with.
    """
    if name == "pickle" and not allow_pickle:
        raise ValueError("serializer pickle runs code that messages bring along: it needs --allow-pickle")
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    if ":" in name:
        return _import(name)
    raise ValueError(f"serializer {name!r}: expected {', '.join(_BUILT_IN)} or module:Class")


def quick(serializer: Serializer) -> Callable[[bytes], Any]:
    """What decodes nearly all payloads; where it raises one of `REFUSED`, `decode` has the last word."""
    return jsontext.quick if serializer is _BUILT_IN["json"] else serializer.decode


def _import(name: str) -> Serializer:
    module, _, attribute = name.partition(":")
    try:
        found: Any = reduce(getattr, attribute.split("."), importlib.import_module(module))
        serializer: Serializer = found() if isinstance(found, type) else found
    except Exception as error:
        said = " ".join(str(error).split())
        raise ValueError(f"serializer {name}: {type(error).__name__}: {said}") from error
    for method in ("encode", "decode"):
        if not callable(getattr(serializer, method, None)):
            raise ValueError(f"serializer {name}: it has no method {method!r}")  # noqa: TRY004 - a setting
    return serializer


def _msgpack_encode(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def _msgpack_decode(data: bytes) -> Any:
    return msgpack.unpackb(data, strict_map_key=False)


def _raw_encode(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"serializer raw takes bytes or str, not {type(value).__name__}")


_BUILT_IN: dict[str, Serializer] = {
    "json": _Pair(jsontext.encode, jsontext.decode),
    "msgpack": _Pair(_msgpack_encode, _msgpack_decode),
    "raw": _Pair(_raw_encode, bytes),
    "pickle": _Pair(pickle.dumps, pickle.loads),
}
