"""The format of dead letters, and the choice among them; a fake server will do here."""

from __future__ import annotations

import contextlib
from typing import Any

import fakeredis
import msgpack
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.streams import letter
from rsq.streams.deadletter import DeadLetter, DeadLetters, Foreign, parse, write_command
from rsq.streams.entry import Message
from rsq.streams.envelope import ENVELOPES

META: dict[str, bytes] = {
    "v": b"1",
    "id": b"1-1",
    "stream": b"orders",
    "group": b"workers",
    "consumer": b"web-1:0",
    "attempts": b"3",
    "reason": b"max_attempts",
    "error": b"ValueError: x",
    "traceback": b"Traceback ...",
    "first": b"1000",
    "last": b"2000",
    "packed": b"0",
}


def flat(*fields: bytes, **changed: bytes) -> list[bytes]:
    """An entry of the dead-letter stream, with parts of the usual meta pairs changed."""
    return [part for name, value in (META | changed).items() for part in (b"rsq:" + name.encode(), value)] + [
        *fields
    ]


def command(**changed: str | int) -> tuple[bytes, ...]:
    """A usual write_command with parts changed."""
    usual = {"attempts": 3, "reason": "timeout", "first_ms": 1000, "last_ms": 2000}
    return write_command("s", "s:dlq", "g", "c", "1-1", **(usual | changed))  # type: ignore[arg-type]


def test_a_letter_is_read_by_position() -> None:
    found = parse(b"9-0", flat(b"data", b"{}", b"rsq:reason", b"not ours", b"data", b"again"))
    assert found == DeadLetter(
        id="9-0",
        origin_id="1-1",
        stream="orders",
        group="workers",
        consumer="web-1:0",
        attempts=3,
        reason="max_attempts",
        error="ValueError: x",
        traceback="Traceback ...",
        first_ms=1000,
        last_ms=2000,
        fields=((b"data", b"{}"), (b"rsq:reason", b"not ours"), (b"data", b"again")),
    )


def test_packed_fields_are_unpacked() -> None:
    packed = msgpack.packb([b"a", b"\xff", b"", b""], use_bin_type=False)
    found = parse("9-0", flat(b"rsq:fields", packed, packed=b"1"))
    assert found is not None
    assert found.fields == ((b"a", b"\xff"), (b"", b""))


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b"data", b"x"],
        flat(),
        flat(b"data", b"x", v=b"2"),
        flat(b"data", b"x", attempts=b"many"),
        flat(b"data", b"x", last=b""),
        flat(b"data", b"x", packed=b"1"),
        flat(b"rsq:fields", b"\x93", packed=b"1"),
        flat(b"rsq:fields", msgpack.packb(5), packed=b"1"),
        flat(b"rsq:fields", msgpack.packb([1, 2]), packed=b"1"),
        flat(b"rsq:fields", msgpack.packb([b"a"]), packed=b"1"),
        flat(b"rsq:fields", msgpack.packb([]), packed=b"1"),
        flat(b"rsq:fields", msgpack.packb([b"a", b"b"]), b"more", b"x", packed=b"1"),
        flat(b"data", b"x")[2:],
        flat(b"data"),
    ],
)
def test_anything_else_is_no_letter(fields: list[bytes]) -> None:
    assert parse("9-0", fields) is None


@given(st.lists(st.binary(max_size=5)), st.dictionaries(st.sampled_from(list(META)), st.binary(max_size=9)))
def test_no_content_raises(fields: list[bytes], changed: dict[str, bytes]) -> None:
    parse("9-0", fields)
    found = parse("9-0", flat(*fields, **changed))
    assert found is None or len(found.fields) > 0


def test_the_command_names_its_keys_and_all_arguments() -> None:
    eval_, script, count, *rest = write_command(
        "s\udcff", "d", "g", "c:0", b"1-1", attempts=3, reason="crash: SIGSEGV", first_ms=1, last_ms=2
    )
    assert (eval_, count) == (b"EVAL", b"4")
    assert script.startswith(b"--")
    kept = [b"rsq:{s\xff}:g:waiting", b"rsq:{s\xff}:g:stories"]
    assert rest[:4] == [b"s\xff", *kept, b"d"]
    assert rest[4:] == [b"g", b"c:0", b"1-1", b"3", b"crash: SIGSEGV", b"", b"", b"1", b"2"]


def test_long_stories_are_cut_in_the_middle() -> None:
    error, traceback = command(error="<" + "e" * 9000 + ">", traceback="<" + "ü" * 99_999 + ">")[-4:-2]
    assert len(error) == 4 * 1024
    assert 32 * 1024 - 8 < len(traceback) <= 32 * 1024
    for text in (error, traceback):
        assert text.decode().startswith("<")
        assert text.decode().endswith(">")
    assert b"[... 4906 bytes cut ...]" in error


def test_stories_that_just_fit_are_whole_and_text_that_is_none_is_escaped() -> None:
    assert command(error="e" * 4096)[-4] == b"e" * 4096
    assert command(error="\ud800")[-4] == rb"\ud800"


@pytest.fixture
def letters() -> DeadLetters:
    """Six letters of two streams and a foreign entry."""
    client: Any = fakeredis.FakeRedis()
    for number, reason in enumerate(["timeout", "crash: SIGSEGV", "crash: SIGKILL", "crashed", "timeout"], 1):
        client.execute_command(
            "XADD", "orders:dlq", f"{number}-0", *flat(b"n", b"%d" % number, reason=reason.encode())
        )
    client.execute_command("XADD", "orders:dlq", "6-0", *flat(b"n", b"6", stream=b"mails"))
    client.execute_command("XADD", "orders:dlq", "7-0", "who", "me", "who", "again")
    return DeadLetters(client, "orders")


def test_letters_of_other_streams_are_passed_over_and_foreign_entries_are_shown(letters: DeadLetters) -> None:
    assert [entry.id for entry in letters.iterate()] == ["1-0", "2-0", "3-0", "4-0", "5-0", "7-0"]
    assert letters.count() == 7
    assert letters.get("7-0") == Foreign("7-0", ((b"who", b"me"), (b"who", b"again")))
    other = letters.get("6-0")
    assert isinstance(other, DeadLetter)
    assert other.stream == "mails"
    assert letters.get("8-0") is None


@pytest.mark.parametrize("page", [1, 2, 100])
def test_letters_come_in_either_order_whatever_the_page(letters: DeadLetters, page: int) -> None:
    forward = [entry.id for entry in letters.iterate(page=page)]
    assert forward == ["1-0", "2-0", "3-0", "4-0", "5-0", "7-0"]
    assert [entry.id for entry in letters.iterate(newest_first=True, page=page)] == forward[::-1]


@pytest.mark.parametrize(
    ("reason", "ids"),
    [
        ("timeout", ["1-0", "5-0"]),
        ("crash", ["2-0", "3-0"]),
        ("crash: SIGKILL", ["3-0"]),
        ("crash: SIG", []),
        ("cra", []),
        ("crashed", ["4-0"]),
    ],
)
def test_a_reason_selects_its_kind(letters: DeadLetters, reason: str, ids: list[str]) -> None:
    assert [entry.id for entry in letters.iterate(reason)] == ids


def test_ids_select_in_their_order(letters: DeadLetters) -> None:
    assert [entry.id for entry in letters.iterate(ids=["5-0", "9-9", "6-0", "1-0"])] == ["5-0", "1-0"]


@pytest.mark.parametrize("entry_id", ["", "5", "5-*", "-", "+", "(5-0", "5-0-0", "\u0665-0"])
def test_what_is_no_id_is_refused(letters: DeadLetters, entry_id: str) -> None:
    for act in (letters.get, lambda one: letters.replay([one]), lambda one: letters.purge([one])):
        with pytest.raises(ValueError, match="not the id"):
            act(entry_id)
    assert letters.count() == 7


def test_replay_and_purge_want_exactly_one_choice(letters: DeadLetters) -> None:
    for act in (letters.replay, letters.purge):
        for choice in ({}, {"ids": ["1-0"], "everything": True}, {"reason": "x", "everything": True}):
            with pytest.raises(ValueError, match="give ids"):
                act(**choice)  # type: ignore[arg-type]
    assert letters.count() == 7


def test_purge_leaves_what_is_not_ours_unless_its_id_is_given(letters: DeadLetters) -> None:
    assert [(o.id, o.result) for o in letters.purge(reason="crash")] == [("2-0", "purged"), ("3-0", "purged")]
    assert [(o.id, o.result) for o in letters.purge(everything=True)] == [
        ("1-0", "purged"),
        ("4-0", "purged"),
        ("5-0", "purged"),
        ("7-0", "foreign"),
    ]
    assert letters.count() == 2
    assert [(o.id, o.result) for o in letters.purge(["7-0", "1-0"])] == [("7-0", "purged"), ("1-0", "gone")]
    assert letters.count() == 1


def test_the_module_s_table_is_the_format() -> None:
    documented = [
        line.split()[0] for line in (letter.__doc__ or "").splitlines() if line.startswith("    rsq:")
    ]
    assert documented == [name.decode() for name in letter.META]


# As a handler sees it


def _message(*fields: bytes, **changed: bytes) -> Message:
    entry: list[Any] = [b"7-0", flat(*fields, **changed)]
    return Message(entry, _data(entry[1]))


def _data(fields: list[bytes], envelope: str = "auto") -> Any:
    content = ENVELOPES[envelope].unwrap(fields)
    return content.decoded(orjson.loads)


def test_a_message_that_is_a_letter() -> None:
    """Its story is that of the letter, its data and event are those of the original entry."""
    message = _message(b"data", b'{"n":1}', b"event", b"paid")
    assert (message.data, message.event, message.id) == ({"n": 1}, "paid", "7-0")
    letter_ = message.letter
    assert letter_ is not None
    assert (letter_.origin_id, letter_.reason, letter_.attempts) == ("1-1", "max_attempts", 3)
    assert letter_.fields == ((b"data", b'{"n":1}'), (b"event", b"paid"))
    assert _message(b"a", b"1", b"b", b"2").data == {"a": "1", "b": "2"}
    packed = msgpack.packb([b"data", b"[1]"])
    assert _message(letter.PACKED_FIELD, packed, packed=b"1").data == [1]


def test_what_cannot_be_decoded_is_bytes_in_the_hands_of_a_handler_of_letters() -> None:
    """It is most likely why the entry is dead: to fail at it again would hide the letter for good."""
    assert _message(b"data", b"not JSON").data == b"not JSON"


def test_a_letter_of_any_envelope_is_a_message_for_itself() -> None:
    """Its data, event and headers are the original entry's, its attempts its own; no other is its copy."""
    told = b'{"id":"m-1","event":"paid","data":[7],"retries":2,"timestamps":{"created":"then"}}'
    fields = flat(b"message", told)
    for name in ("auto", "streamix"):
        envelope = ENVELOPES[name]
        assert (_data(fields, name), envelope.event(fields)) == ([7], b"paid")
        assert (envelope.retries(fields), envelope.unwrap(fields).retries, envelope.key(fields)) == (
            0,
            0,
            None,
        )
        assert envelope.headers(fields) == {"created": "then"}
    ours = flat(b"data", b"1", b"key", b"k", b"event", b"e", b"more", b"m")
    assert (ENVELOPES["rsq"].key(ours), ENVELOPES["rsq"].headers(ours)) == (None, {"more": "m"})
    packed = flat(letter.PACKED_FIELD, msgpack.packb([b"data", b"1", b"event", b"e"]), packed=b"1")
    assert ENVELOPES["auto"].event(packed) == b"e"


def test_a_letter_in_another_envelope_than_expected_is_shown_as_it_is() -> None:
    """That may be why it is one."""
    assert _data(flat(b"data", b"[1]"), "streamix") == b"[1]"
    assert _data(flat(b"a", b"1"), "rsq") == {"a": "1"}


def test_a_letter_about_a_letter_has_the_data_of_the_first_entry() -> None:
    assert _message(*flat(b"data", b"[1]")).data == [1]


def test_what_only_looks_like_a_letter_is_an_entry_as_any() -> None:
    message = _message(b"data", b"[1]", attempts=b"many")
    assert (message.letter, message.data) == (None, [1])
    with pytest.raises(ValueError, match="invalid literal"):
        _message(b"data", b"not JSON", attempts=b"many")
    plain = Message([b"1-0", [b"data", b"[1]"]], [1])
    assert plain.letter is None


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=40).map(lambda parts: parts * 2))
def test_any_fields_are_data_or_a_decode_error(parts: list[bytes]) -> None:
    for fields in (parts, flat(*parts), flat(*flat(*parts)), [b"rsq:v", b"1", *parts]):
        with contextlib.suppress(ValueError):
            _data(fields)
