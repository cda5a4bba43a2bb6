"""The pipe: frames come out as they went in, in order, or are counted as dropped."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_shared import child, killed_anywhere, shared, until

from rsq.ipc.cells import CELL
from rsq.ipc.pipe import PIPE_SIZE, Pipe

RING = PIPE_SIZE - 4 * CELL
SIZES = st.one_of(st.integers(0, 200), st.integers(0, 60_000), st.integers(RING - 40, RING + 40))
PUTS = SIZES.map(lambda size: ("put", size))
TAKES = st.integers(1, 9).map(lambda most: ("take", most))
NO_FRAMES = (
    b"",
    b"\xc1",
    b"\x93",
    b"\x81\xc0",
    b"\x91" * 3000,
    b"\xd6\xff",
    b"\xc7\x0c\xff" + b"\xff" * 12,
    b"\x81\x90\x01",
)


def _frame(number: int, size: int) -> dict[str, Any]:
    return {"n": number, "text": "x" * size}


def _cost(frame: dict[str, Any]) -> int:
    return 4 + len(msgpack.packb(frame))


@given(st.lists(st.one_of(PUTS, TAKES)))
@settings(max_examples=300, deadline=None)
def test_a_pipe_is_a_queue_that_counts_what_does_not_fit(steps: list[tuple[str, int]]) -> None:
    raw = shared(PIPE_SIZE)
    writer, reader = Pipe(raw), Pipe(raw)
    model: deque[dict[str, Any]] = deque()
    dropped = 0
    for number, (what, much) in enumerate(steps):
        if what == "put":
            frame = _frame(number, much)
            fits = sum(map(_cost, model)) + _cost(frame) <= RING
            assert writer.put(frame) is fits
            if fits:
                model.append(frame)
            else:
                dropped += 1
        else:
            assert reader.take(much) == [model.popleft() for _ in range(min(much, len(model)))]
        assert reader.dropped == dropped
        assert reader.unread is bool(model)
    assert Pipe(raw).take() == list(model)


def test_a_frame_as_large_as_the_ring_fits_at_every_offset() -> None:
    pipe = Pipe(shared(PIPE_SIZE))
    whole = _frame(1, RING - _cost(_frame(1, 100_000)) + 100_000)
    assert _cost(whole) == RING
    for _ in range(3):
        assert pipe.put(whole)
        assert not pipe.put({})
        assert pipe.take() == [whole]
        assert pipe.put({"shift": 1})
        assert pipe.take() == [{"shift": 1}]


def test_text_that_is_no_utf8_comes_through() -> None:
    pipe = Pipe(shared(PIPE_SIZE))
    frame = {"event": b"\xff\xfe".decode("utf-8", "surrogateescape"), "raw": b"\x00\xff", "retry_in": None}
    assert pipe.put(frame)
    assert pipe.take() == [frame]


def test_a_frame_is_there_or_not_wherever_its_writer_is_killed() -> None:
    raw = shared(PIPE_SIZE)
    old, new = {"n": 1, "text": "old"}, {"n": 2, "text": "new" * 50}
    seen = []

    def prepare() -> None:
        raw[:] = b"\xa5" * PIPE_SIZE
        raw.cast("Q")[0] = raw.cast("Q")[1] = RING - 20  # frames will wrap around the end
        assert Pipe(raw).put(old)

    def check() -> None:
        pipe = Pipe(raw)
        frames = pipe.take()
        seen.append(len(frames))
        assert frames in ([old], [old, new])
        assert pipe.put(old), "a successor goes on writing"
        assert pipe.take() == [old]

    pipe = Pipe(raw)
    assert killed_anywhere(raw, prepare, lambda: pipe.put(new), check) > 2
    assert set(seen) == {1, 2}
    assert seen == sorted(seen), "from one step on it is there"


def test_nothing_is_lost_or_doubled_wherever_the_reader_is_killed_but_read_again() -> None:
    """A reader that dies between reading and forgetting reads once more: a log line twice, never none."""
    raw = shared(PIPE_SIZE)
    frames = [_frame(number, 10) for number in range(3)]

    def prepare() -> None:
        raw[:] = bytes(PIPE_SIZE)
        assert all(map(Pipe(raw).put, frames))

    def check() -> None:
        assert Pipe(raw).take() in (frames, [])

    pipe = Pipe(raw)
    assert killed_anywhere(raw, prepare, pipe.take, check) > 1


def test_a_reader_beside_a_busy_writer_misses_nothing() -> None:
    raw = shared(PIPE_SIZE)
    many = 20_000

    def write(there: Callable[[], object]) -> None:
        pipe = Pipe(raw)
        there()
        for number in range(many):
            while not pipe.put(_frame(number, number % 700)):
                os.sched_yield()

    with child(write) as writer:
        writer.ready()
        pipe, expected = Pipe(raw), 0
        while expected < many:
            for frame in until(lambda: pipe.take() or None, f"frame {expected}"):
                assert frame == _frame(expected, expected % 700)
                expected += 1
        assert writer.wait() == 0
    assert not pipe.unread


def test_a_killed_writer_leaves_whole_frames() -> None:
    raw = shared(PIPE_SIZE)

    def write(there: Callable[[], object]) -> None:
        pipe, number = Pipe(raw), 0
        while True:
            number += pipe.put(_frame(number, 300))
            if number == 50:
                there()

    with child(write) as writer:
        writer.ready()
        assert os.WTERMSIG(writer.kill()) == signal.SIGKILL
    frames = Pipe(raw).take()
    assert [frame["n"] for frame in frames] == list(range(len(frames)))
    assert all(len(frame["text"]) == 300 for frame in frames)


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=200),
    st.sampled_from([b"\x00", b"\xff", b"\x01\x00\x00\x00\xc1", b"\x02\x00\x00\x00\x81\xc0"]),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_can_be_read_as_a_pipe(head: int, tail: int, noise: bytes, filler: bytes) -> None:
    raw = shared(PIPE_SIZE)
    raw[4 * CELL :] = (filler * PIPE_SIZE)[: PIPE_SIZE - 4 * CELL]
    raw[4 * CELL : 4 * CELL + len(noise)] = noise
    raw.cast("Q")[0], raw.cast("Q")[1] = head, tail
    pipe = Pipe(raw)
    assert all(isinstance(frame, dict) for frame in pipe.take(10**9))
    assert pipe.take(10**9) == [], "what was nonsense is not read again"
    if head < 2**63:
        assert pipe.put({"kind": "note"}), "the pipe works again"
        assert pipe.take() == [{"kind": "note"}]


@pytest.mark.parametrize("body", NO_FRAMES)
def test_a_frame_that_is_no_frame_is_skipped(body: bytes) -> None:
    raw = shared(PIPE_SIZE)
    raw[4 * CELL : 4 * CELL + 4] = len(body).to_bytes(4, "little")
    raw[4 * CELL + 4 : 4 * CELL + 4 + len(body)] = body
    raw.cast("Q")[0] = 4 + len(body)
    pipe = Pipe(raw)
    assert pipe.put({"n": 1})
    assert pipe.take() == [{"n": 1}]
