"""Envelopes: whatever is in the fields, it is told apart in one way, or a DecodeError says why not."""

from __future__ import annotations

import contextlib
import json
import math
import random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rsq.streams.entry import Message
from rsq.streams.envelope import ENVELOPES, RETRIES_MAX, Content, DecodeError, Raw

AUTO, OURS, DATA, STREAMIX, FIELDS = (ENVELOPES[n] for n in ("auto", "rsq", "data", "streamix", "fields"))
WRAPPED = {
    "id": "8d3f", "event": "user.created", "data": {"user": 7}, "retries": 0,
    "timestamps": {"created_at": "2026-01-01T00:00:00+00:00", "updated_at": "2026-01-02T00:00:00+00:00"},
}  # fmt: skip

_json = st.sampled_from(
    [None, True, 0, -1, 7, 10**30, 1.5, math.inf, math.nan, "", "7", "x", "\ud800", [], [1], {}, {"a": 1}]
)
_messages = st.fixed_dictionaries({}, optional=dict.fromkeys(WRAPPED, _json)).map(
    lambda told: json.dumps(told).encode("utf-8", "surrogatepass")
)
_names = st.sampled_from([b"data", b"message", b"event", b"key", b"traceparent", b"id"]) | st.binary(
    max_size=6
)
_values = st.binary(max_size=20) | _messages | st.just(json.dumps(WRAPPED).encode())
_pairs = st.lists(st.tuples(_names, _values), min_size=1, max_size=6)


def flat(*pairs: tuple[bytes, bytes]) -> Raw:
    return [part for pair in pairs for part in pair]


def wrapped(**changes: Any) -> Raw:
    return [b"message", json.dumps(WRAPPED | changes).encode()]


def kind(fields: Raw) -> str:
    """Return which of the fixed envelopes the recognised one behaves as."""
    if any(name == b"data" for name in fields[::2]):
        return "rsq"
    try:
        STREAMIX.unwrap(fields)
    except DecodeError as error:
        return "streamix" if str(error).startswith("streamix envelope: ") else "fields"
    return "streamix"


@given(_pairs)
@example([(b"message", b"[" * 100_000)])
@example([(b"message", b'{"id":' * 50_000)])
@example([(b"message", b'{"retries": ' + b"9" * 5000 + b"}")])
@example([(b"message", b"\xef\xbb\xbf{}")])
@example([(b"message", b"{\xff}")])
def test_nothing_but_a_decode_error(pairs: list[tuple[bytes, bytes]]) -> None:
    fields = flat(*pairs)
    for envelope in ENVELOPES.values():
        with contextlib.suppress(DecodeError):
            content = envelope.unwrap(fields)
            assert 0 <= content.retries <= RETRIES_MAX
            assert content.payload is None or content.data is None
        event, key = envelope.event(fields), envelope.key(fields)
        assert event is None or isinstance(event, bytes)
        assert key is None or isinstance(key, bytes)
        assert 0 <= envelope.retries(fields) <= RETRIES_MAX
        assert all(isinstance(word, str) for pair in envelope.headers(fields).items() for word in pair)
        message = Message.for_stream("s", envelope)()
        message.entry, message.data, message.attempt = [b"1-0", fields], None, 1
        assert "1-0" in repr(message)
        assert isinstance(message.fields, dict)


@given(_pairs)
def test_the_recognised_envelope_reads_as_the_fixed_one(pairs: list[tuple[bytes, bytes]]) -> None:
    fields = flat(*pairs)
    fixed = ENVELOPES[kind(fields)]
    assert _said(AUTO, fields) == _said(fixed, fields)


@given(_pairs, st.randoms(use_true_random=False), st.tuples(st.binary(min_size=8, max_size=9), st.binary()))
def test_neither_order_nor_other_fields_change_what_it_is(
    pairs: list[tuple[bytes, bytes]], dice: random.Random, more: tuple[bytes, bytes]
) -> None:
    """Of fields of one name the first holds, so only the order of different names may change."""
    pairs = list({name: (name, value) for name, value in reversed(pairs)}.values())
    shuffled = [*pairs, more]
    dice.shuffle(shuffled)
    before, after = flat(*pairs), flat(*shuffled)
    assert kind(before) == kind(after)
    if kind(before) != "fields":
        assert _said(AUTO, before)[:4] == _said(AUTO, after)[:4]  # all but the headers
    assert (AUTO.event(before), AUTO.key(before)) == (AUTO.event(after), AUTO.key(after))


@given(_pairs)
def test_a_first_field_that_says_so_is_the_payload(pairs: list[tuple[bytes, bytes]]) -> None:
    """The worker's loop relies on it: then it does not unwrap at all."""
    fields = flat(*pairs)
    for envelope in ENVELOPES.values():
        if fields[0] == envelope.first:
            assert envelope.unwrap(fields) == Content(fields[1], None, 0)
            assert envelope.retries(fields) == 0


@given(
    st.text(min_size=1), st.text(min_size=1), st.dictionaries(st.text(), st.integers(-(2**63), 2**63)),
    st.integers(0, 50), st.booleans(), st.booleans(),
)  # fmt: skip
def test_streamix_queue_comes_out_as_it_went_in(
    event: str, name: str, data: dict[str, int], retries: int, escaped: bool, compact: bool
) -> None:
    told = WRAPPED | {"id": name, "event": event, "data": data, "retries": retries}
    text = json.dumps(told, ensure_ascii=escaped, separators=(",", ":") if compact else None)
    fields = [b"message", text.encode()]
    for envelope in (AUTO, STREAMIX):
        assert envelope.unwrap(fields) == Content(None, data, retries)
        assert envelope.event(fields) == event.encode()
        assert envelope.key(fields) == name.encode()
        assert envelope.retries(fields) == retries
        assert envelope.headers(fields) == WRAPPED["timestamps"]


@given(st.binary(), st.binary(), st.binary(), st.text(min_size=5))
def test_ours_comes_out_as_it_went_in(data: bytes, event: bytes, key: bytes, header: str) -> None:
    fields = flat((b"event", event), (header.encode(), b"w"), (b"key", key), (b"data", data))
    for envelope in (AUTO, OURS):
        assert envelope.unwrap(fields) == Content(data, None, 0)
        assert (envelope.event(fields), envelope.key(fields)) == (event, key)
        assert envelope.headers(fields) == ({} if header == "event" else {header: "w"})
    assert DATA.unwrap(fields) == Content(data, None, 0)
    assert (DATA.event(fields), DATA.key(fields), DATA.headers(fields)) == (None, None, {})


def test_plain_fields_name_no_message() -> None:
    """A customer's number in a field `key` must not make two orders copies of each other."""
    fields = flat((b"key", b"7"), (b"event", b"order"), (b"raw", b"\xff"))
    for envelope in (AUTO, FIELDS):
        assert envelope.unwrap(fields) == Content(None, {"key": "7", "event": "order", "raw": "\\xff"}, 0)
        assert (envelope.event(fields), envelope.key(fields)) == (b"order", None)


@pytest.mark.parametrize(
    "message", [b"hello", b"{", b"{}", b"[1]", b'"x"', b"null", b'{"event": "a", "data": {}}', b""]
)
def test_another_field_message_is_a_plain_field(message: bytes) -> None:
    fields = [b"message", message]
    assert AUTO.unwrap(fields).data == {"message": message.decode()}
    with pytest.raises(DecodeError, match=r"expected the envelope streamix, .*; found the fields message"):
        STREAMIX.unwrap(fields)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": ""}, "`id`"), ({"id": 5}, "`id`"), ({"event": None}, "`event`"), ({"event": ""}, "`event`"),
        ({"retries": "many"}, "`retries`"), ({"retries": None}, "`retries`"), ({"retries": [1]}, "`retries`"),
    ],
)  # fmt: skip
def test_a_damaged_envelope_says_what_is_wrong(changes: dict[str, Any], words: str) -> None:
    for envelope in (AUTO, STREAMIX):
        with pytest.raises(DecodeError, match=words):
            envelope.unwrap(wrapped(**changes))


@pytest.mark.parametrize(
    ("retries", "counted"), [("2", 2), (-1, 0), (10**30, RETRIES_MAX), (True, 1), (2.9, 2)]
)
def test_retries_as_their_own_consumer_reads_them(retries: Any, counted: int) -> None:
    assert AUTO.unwrap(wrapped(retries=retries)).retries == counted


@pytest.mark.parametrize("name", ["rsq", "data"])
def test_a_fixed_envelope_names_what_it_found(name: str) -> None:
    found = flat(*((b"f%d" % n + b"x" * 50, b"") for n in range(20)))
    with pytest.raises(DecodeError) as caught:
        ENVELOPES[name].unwrap(found)
    words = str(caught.value)
    assert words.startswith(f"expected the envelope {name}, a field `data`; found the fields f0xxx")
    assert words.endswith(", ...")
    assert len(words) < 500


def test_what_a_handler_sees() -> None:
    message = Message([b"5-1", flat((b"data", b"{}"), (b"key", b"k"), (b"traceparent", b"00-ab"))], {})
    assert (message.key, message.traceparent) == ("k", "00-ab")
    assert message.headers == {"traceparent": "00-ab"}
    message = Message([b"5-1", wrapped(event="\ud800")], {})
    assert message.event == "\\ud800"


def _said(envelope: Any, fields: Raw) -> Any:
    try:
        content = envelope.unwrap(fields)
    except DecodeError as error:
        content = str(error)
    headers = envelope.headers(fields)
    return repr(content), envelope.event(fields), envelope.key(fields), envelope.retries(fields), headers
