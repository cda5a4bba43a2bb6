"""What turns a value into the bytes of a message and back.

    json          orjson; what orjson refuses or would write as null goes through the standard library
    msgpack       bytes stay bytes, text stays text
    raw           bytes as they are; text is written as UTF-8
    pickle        runs code from the message when it is read: only with `allow_pickle`
    module:Class  yours, made once without arguments; anything with `encode` and `decode`

Integers of more than 64 bits are written to JSON as they are, but read as floats: orjson does so without a
word, and looking for them would cost every message most of its decoding again. Send them as text.

Decoding runs once per message in the hot loop, which keeps `quick` of the serializer in a local variable: a
plain function, for json `orjson.loads` itself.
"""

import importlib
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Protocol

import msgpack
import orjson


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
    """What decodes nearly all payloads; where it raises ValueError, `decode` has the last word."""
    return _orjson_loads if serializer is _BUILT_IN["json"] else serializer.decode


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


def _json_encode(value: Any) -> bytes:
    try:
        data = orjson.dumps(value)
    except TypeError:
        return _json_encode_slowly(value)
    # orjson writes NaN and the infinities as null: a message must not lose them without a word.
    if b"null" in data and _has_odd_number(value):
        return _json_encode_slowly(value)
    return data


def _json_encode_slowly(value: Any) -> bytes:
    # Big integers, NaN, keys that are not text, lone surrogates; what only orjson knows (dates, dataclasses,
    # UUIDs) is asked of it one by one.
    return json.dumps(value, separators=(",", ":"), default=_plain).encode()


def _plain(value: Any) -> Any:
    return orjson.loads(orjson.dumps(value))


def _has_odd_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_odd_number, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_has_odd_number, value))
    return False


def _json_decode(data: bytes) -> Any:
    try:
        return _orjson_loads(data)
    except ValueError:
        # Strictly UTF-8: given bytes, the standard library would also guess at UTF-16.
        return json.loads(str(data, "utf-8"))


_orjson_loads = orjson.loads


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
    "json": _Pair(_json_encode, _json_decode),
    "msgpack": _Pair(_msgpack_encode, _msgpack_decode),
    "raw": _Pair(_raw_encode, bytes),
    "pickle": _Pair(pickle.dumps, pickle.loads),
}
