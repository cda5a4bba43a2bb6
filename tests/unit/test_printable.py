"""What is printed of other people's bytes cannot do anything to a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rsq.supervisor.printable import one_line, printable


@given(st.text() | st.binary())
def test_only_visible_characters_are_left(value: str | bytes) -> None:
    assert printable(value).isprintable()
    assert one_line(value).isprintable()
    printable(value).encode()


def test_visible_text_stays_as_it_is() -> None:
    assert printable("größe [x] → 日本 🎉") == "größe [x] → 日本 🎉"
    assert printable("größe".encode()) == "größe"


def test_what_could_steer_a_terminal_is_written_as_an_escape() -> None:
    assert printable("a\x1b[31mb\x9b2J\r\n\x07") == "a\\x1b[31mb\\x9b2J\\r\\n\\x07"
    assert printable("user\u202etxt.exe\u2066") == "user\\u202etxt.exe\\u2066"
    assert printable(b"\xff\x00") == "\\xff\\x00"
    assert printable("\udcff") == "\\udcff"


def test_a_caller_may_keep_newlines() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@given(st.text() | st.binary(), st.integers(2, 20))
def test_a_limit_holds_and_shows_that_something_is_missing(value: str | bytes, limit: int) -> None:
    whole, cut = one_line(value), one_line(value, limit)
    assert len(cut) <= limit
    assert cut == whole or cut.endswith("…")


def test_white_space_is_folded() -> None:
    assert one_line("a\n\n  b\tc ") == "a b c"
