"""JSON: values as text and back, exactly or not at all.

Written by orjson, read by msgspec, both in C. What these refuse, or would change, goes through the standard
library, with a look at every part: integers of any size, NaN, keys that are no text, lone surrogates.
"""

import json
import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec
import orjson

DEPTH_MAX = 500  # of lists and dicts in each other: half of what Python reads
# orjson would leave out fields whose names begin with an underscore, and round offsets of time zones.
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

quick: Callable[[bytes], Any] = msgspec.json.decode


def encode(value: Any) -> bytes:
    """The text of a value, as UTF-8.

    Raises:
        TypeError: JSON has nothing for a part of it.
        ValueError: the text would be read as another value.
    """
    try:
        data = orjson.dumps(value, _plain, _OPTIONS)
    except TypeError:
        return _encode_slowly(value)
    # orjson writes NaN and the infinities as null: a message must not lose them without a word.
    if b"null" in data and _has_odd_number(value):
        return _encode_slowly(value)
    return data


def decode(data: bytes) -> Any:
    """The value of a text.

    Raises:
        ValueError: it is no JSON, or a number in it is too large.
        RecursionError: it is nested too deeply.
    """
    try:
        return quick(data)
    except (ValueError, msgspec.MsgspecError):
        # Strictly UTF-8: given bytes, the standard library would also guess at UTF-16.
        return json.loads(str(data, "utf-8"), parse_float=_finite)


def _encode_slowly(value: Any) -> bytes:
    return json.dumps(_exact(value), separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """Turn what JSON has not into what it has."""
    if type(value) in (datetime, date) or (type(value) is time and value.tzinfo is None):
        return value.isoformat()
    if type(value) is UUID:
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    raise TypeError(f"JSON has nothing for a value of type {type(value).__name__}")


def _exact(value: Any) -> Any:
    """The same value, or what stands for it, of nothing but the types of JSON."""
    top = [value]
    todo: list[tuple[Any, Any, int]] = [(top, 0, 0)]  # a list or a dict, the place of a value in it, depth
    while todo:
        into, place, depth = todo.pop()
        if depth > DEPTH_MAX:
            raise ValueError(f"nested more than {DEPTH_MAX} deep, or in itself")
        value = into[place]
        if isinstance(value, str):
            into[place] = _text(value)
        elif isinstance(value, list | tuple):
            into[place] = inner = [*value]
            todo += ((inner, at, depth + 1) for at in range(len(inner)))
        elif isinstance(value, dict):
            into[place] = named = {_key(key): item for key, item in value.items()}
            if len(named) != len(value):
                raise ValueError("two keys of a dict would be the same text in JSON")
            todo += ((named, key, depth + 1) for key in named)
        elif value is not None and not isinstance(value, bool | int | float):
            into[place] = _plain(value)
            todo.append((into, place, depth + 1))
    return top[0]


def _text(value: str) -> str:
    # Two code points that are the halves of one would be read as that one.
    if value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") != value:
        raise ValueError("a text with both halves of a surrogate pair would be read as another text")
    return str.__str__(value)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return _text(key)
    if key is None or isinstance(key, bool | int | float):
        return json.dumps(key)
    raise TypeError(f"JSON has nothing for a key of type {type(key).__name__}")


def _has_odd_number(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_odd_number, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_odd_number, value))
    if isinstance(value, Enum) or is_dataclass(value):
        return _has_odd_number(_plain(value))
    return False


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large for a number")
    return number
