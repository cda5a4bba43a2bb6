"""Pushes on the wire: what the server reads is what was meant, whatever bytes that are."""

from __future__ import annotations

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from rsq.streams import frames
from rsq.streams.frames import Frame
from rsq.streams.lanes import Lane

payloads = st.lists(st.binary(max_size=40), min_size=1, max_size=12)
names = st.none() | st.text(max_size=8)


def parsed(data: bytes) -> list[list[bytes]]:
    reader = hiredis.Reader()
    reader.feed(data)
    found = []
    while (command := reader.gets()) is not False:
        found.append(command)
    return found


@given(payloads, names, names, names)
def test_each_message_is_one_command(
    batch: list[bytes], event: str | None, trace: str | None, key: str | None
) -> None:
    frame = Frame(event, trace, keyed=key is not None)
    pieces = [frame.piece(payload, key) for payload in batch]
    before = frames.adds(b"orders", (b"MAXLEN", b"~", b"9"), frame)
    head = [b"XADD", b"orders", b"MAXLEN", b"~", b"9", b"*"]
    expected = [head + frame.fields(payload, key) for payload in batch]
    assert parsed(before.join((b"", *pieces))) == expected
    assert frame.fields(batch[0], key)[:2] == [b"data", batch[0]]
    assert dict(zip(*[iter(frame.fields(b"", key)[2:])] * 2, strict=True)) == {
        name: value.encode("utf-8", "surrogateescape")
        for name, value in ((b"event", event), (b"key", key), (b"traceparent", trace))
        if value is not None
    }


@given(payloads, names, st.integers(1, 5))
def test_ids_of_ours_are_never_given_twice_in_a_batch(
    batch: list[bytes], event: str | None, most: int
) -> None:
    """And the server remembers as many of one producer as it is given at once."""
    frame, lane = Frame(event), Lane("token", 0, 7, producer="name.0")
    commands = frames.adds_once(b"orders", (), frame, [frame.piece(one) for one in batch], lane, most)
    found = parsed(b"".join(commands))
    assert len(commands) == len(found) == len(batch)
    assert [command[6:] for command in found] == [frame.fields(one) for one in batch]
    assert all(command[:3] == [b"XADD", b"orders", b"IDMP"] and command[5] == b"*" for command in found)
    ids = [(command[3], command[4]) for command in found]
    assert len(set(ids)) == len(batch)
    assert max(sum(one == name for one, _ in ids) for name, _ in ids) <= most
    # Neither by the next exchange of the lane, nor by the next process of that name.
    for other in (Lane("token", 0, 8, producer="name.0"), Lane("another", 0, 7, producer="name.0")):
        later = frames.adds_once(b"orders", (), frame, [frame.piece(one) for one in batch], other, most)
        assert not set(ids) & {(command[3], command[4]) for command in parsed(b"".join(later))}


@given(st.lists(st.binary(max_size=40), max_size=12), names)
def test_a_script_is_given_all_words_of_all_messages(batch: list[bytes], event: str | None) -> None:
    frame = Frame(event)
    call = frames.script(
        ["orders", "sent"], Lane("t", 0, 3), b"unread", 10, 0, frame, [frame.piece(one) for one in batch]
    )
    (command,) = parsed(call)
    assert command[0] == b"EVAL"
    assert command[2:5] == [b"2", b"orders", b"sent"]
    assert command[5:11] == [b"3", b"600000", b"unread", b"10", b"0", b"%d" % frame.width]
    assert command[11:] == [word for one in batch for word in frame.fields(one)]
