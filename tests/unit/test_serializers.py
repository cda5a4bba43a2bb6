"""Serializers: what goes in comes out, and what cannot go in says so."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rsq.streams import serializers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)
@given(JSON)
def test_json_returns_every_json_value(value: Any) -> None:
    codec = serializers.load("json")
    assert codec.decode(codec.encode(value)) == value
    assert json.loads(codec.encode(value)) == value


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_json_keeps_infinities_that_orjson_would_write_as_null(value: float) -> None:
    codec = serializers.load("json")
    assert codec.decode(codec.encode({"a": [(value,)], "b": None})) == {"a": [[value]], "b": None}


def test_json_keeps_nan() -> None:
    codec = serializers.load("json")
    assert codec.encode(math.nan) == b"NaN"
    assert math.isnan(codec.decode(b"[NaN]")[0])


def test_json_takes_what_only_one_of_both_libraries_takes() -> None:
    codec = serializers.load("json")
    assert codec.decode(codec.encode({1: 2})) == {"1": 2}
    assert codec.decode(codec.encode("\ud800")) == "\ud800"
    assert codec.decode(codec.encode([date(2026, 1, 2), math.inf])) == ["2026-01-02", math.inf]


@settings(deadline=None)
@given(st.integers())
def test_json_keeps_integers_of_any_size(value: int) -> None:
    codec = serializers.load("json")
    assert codec.decode(codec.encode({"a": [value]})) == {"a": [value]}
    assert type(serializers.quick(codec)(b"%d" % value)) is int


@settings(deadline=None)
@given(
    st.floats(allow_nan=False) | st.datetimes(timezones=st.timezones()) | st.text(st.characters(codec=None))
)
def test_json_changes_no_value(value: Any) -> None:
    codec = serializers.load("json")
    try:
        found = codec.decode(codec.encode(value))
    except ValueError:
        assert isinstance(value, str)
        assert value.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") != value
        return
    assert repr(found) == repr(value.isoformat() if isinstance(value, datetime) else value)


@settings(deadline=None)
@given(
    st.binary()
    | st.text('0123456789-+.eE"\\\\u{}[],:ntfalsru d\ud800é\x00').map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
)
def test_json_reads_what_the_standard_library_reads(data: bytes) -> None:
    """Or nothing. All others are refused by both, but numbers that are too large are an infinity there."""
    try:
        found = serializers.load("json").decode(data)
    except ValueError:
        with contextlib.suppress(ValueError):
            assert "inf" in repr(json.loads(str(data, "utf-8")))
    else:
        assert repr(found) == repr(json.loads(str(data, "utf-8")))


@pytest.mark.parametrize("depth", [1, 250, 260, 480])
def test_json_reads_what_it_writes_however_deep(depth: int) -> None:
    value: Any = math.inf
    for _ in range(depth):
        value = [value]
    assert serializers.load("json").decode(serializers.load("json").encode(value)) == value


def test_a_value_in_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    for name in ("json", "msgpack"):
        with pytest.raises(ValueError):
            serializers.load(name).encode(value)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'"\xff"', '{"a":1}'.encode("utf-16"), b"nan", b"1 2"])
def test_json_refuses_what_is_not_json(data: bytes) -> None:
    with pytest.raises(ValueError):
        serializers.load("json").decode(data)


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {(1, 2): 3}])
def test_json_refuses_what_json_cannot_say(value: Any) -> None:
    with pytest.raises(TypeError):
        serializers.load("json").encode(value)


def test_the_loop_decodes_without_a_python_frame() -> None:
    decode = serializers.quick(serializers.load("json"))
    calls: list[str] = []
    sys.setprofile(lambda frame, event, arg: calls.append(event))
    try:
        decode(b'{"a":1}')
    finally:
        sys.setprofile(None)
    assert calls.count("call") == 0


@settings(deadline=None)
@given(JSON)
def test_json_writes_what_orjson_writes_wherever_orjson_is_right(value: Any) -> None:
    try:
        expected = orjson.dumps(value)
    except TypeError:
        return
    assert b"null" in expected or serializers.load("json").encode(value) == expected


def test_msgpack_tells_bytes_from_text_and_takes_any_key() -> None:
    codec = serializers.load("msgpack")
    value = {"a": b"\xff", 1: ["x", None, 1.5], b"k": 2}
    assert codec.decode(codec.encode(value)) == value
    with pytest.raises(ValueError):
        codec.decode(b"\x93")


def test_raw_passes_bytes_through() -> None:
    codec = serializers.load("raw")
    assert codec.encode("ü") == "ü".encode()
    assert codec.encode(bytearray(b"x")) == b"x"
    data = b"\x00\xff"
    assert codec.decode(data) is data
    with pytest.raises(TypeError, match="int"):
        codec.encode(5)


def test_pickle_must_be_allowed() -> None:
    with pytest.raises(ValueError, match="--allow-pickle"):
        serializers.load("pickle")
    codec = serializers.load("pickle", allow_pickle=True)
    assert codec.decode(codec.encode({1, 2})) == {1, 2}


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plug_in.py").write_text(
        "class Upper:\n"
        "    def encode(self, value): return value.upper().encode()\n"
        "    def decode(self, data): return data.decode().lower()\n"
        "class Outer:\n"
        "    Inner = Upper\n"
        "ready = Upper()\n"
        "class Half:\n"
        "    def encode(self, value): return b''\n"
        "class Picky:\n"
        "    def __init__(self, needed): pass\n"
    )
    (tmp_path / "plug_broken.py").write_text("raise RuntimeError('two\\nlines')\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("name", ["plug_in:Upper", "plug_in:Outer.Inner", "plug_in:ready"])
def test_your_own_is_imported(name: str) -> None:
    codec = serializers.load(name)
    assert codec.encode("a") == b"A"
    assert codec.decode(b"B") == "b"


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("yaml", "expected json, msgpack, raw, pickle or module:Class"),
        ("plug_missing:Upper", "No module named 'plug_missing'"),
        ("plug_in:Lower", "has no attribute 'Lower'"),
        ("plug_in:", "has no attribute"),
        (":Upper", "Empty module name"),
        ("plug_broken:X", "RuntimeError: two lines"),
        ("plug_in:Half", "no method 'decode'"),
        ("plug_in:Picky", "needed"),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_line(name: str, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:
        serializers.load(name)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
