"""Pushing, step by step, against a model of a server behind a bad network."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as Gone
from redis.exceptions import ReadOnlyError, ResponseError

from rsq.streams import pushing
from rsq.streams.pushing import Pusher
from rsq.streams.refusals import PushError, StreamFull
from rsq.streams.steps import Heard, Pause, Steps, Talk

FAULTS = ("fine", "unreachable", "lost before", "lost after", "lost in the middle", "elsewhere")


class Model:
    """A server that may remember ids, and what its network does to each exchange in turn."""

    def __init__(self, faults: Iterator[str], *, remembers: int) -> None:
        self.entries: list[bytes] = []
        self.known: dict[tuple[bytes, bytes], bytes] = {}
        self.faults, self.remembers, self.producers = faults, remembers, 0
        self.version = b"8.6.2"
        self.clock = 0.0

    def hear(self, talk: Talk) -> Heard:
        reader = hiredis.Reader()
        reader.feed(talk.data)
        commands = [reader.gets() for _ in range(talk.count)]
        assert reader.gets() is False
        fault = next(self.faults, "fine")
        if fault == "unreachable":
            return Heard([], Gone("refused"), sent=False)
        if fault == "lost before":
            return Heard([], Gone("lost"))
        if fault == "elsewhere":
            return Heard([ReadOnlyError("READONLY")] * talk.count)
        if fault == "lost in the middle":
            executed = random.Random(talk.count).randrange(talk.count + 1)
            answers = [self.add(command) for command in commands[:executed]]
            return Heard(answers[: executed // 2], Gone("lost"))
        answers = [self.add(command) for command in commands]
        return Heard([], Gone("lost")) if fault == "lost after" else Heard(answers)

    def add(self, command: list[bytes]) -> Any:
        if command[0] == b"XINFO":
            return [b"idmp-duration", 100, b"idmp-maxsize", self.remembers, b"pids-tracked", self.producers]
        if command[0] == b"HELLO":
            return [b"server", b"redis", b"version", self.version]
        once = (command[3], command[4]) if command[2] == b"IDMP" else None
        if once in self.known:
            return self.known[once]
        self.entries.append(command[command.index(b"data") + 1])
        entry_id = b"%d-0" % len(self.entries)
        if once is not None:
            self.known[once] = entry_id
        return entry_id

    def do(self, steps: Steps[Any]) -> Any:
        heard: Heard | None = None
        while True:
            try:
                step = steps.send(heard)
            except StopIteration as end:
                return end.value
            heard = None
            if isinstance(step, Pause):
                self.clock += step.seconds
            else:
                heard = self.hear(step)


def pusher(timeout_s: float = 10.0, patience_s: float = 10.0) -> Pusher:
    return Pusher(
        "orders", serializer="json", allow_pickle=False, maxlen=None, exact=False, on_full="trim",
        block_s=60.0, timeout_s=timeout_s, patience_s=patience_s,
    )  # fmt: skip


@given(
    st.lists(st.sampled_from(FAULTS), max_size=6), st.integers(1, 20), st.integers(1, 7), st.integers(1, 9)
)
def test_with_ids_of_ours_every_message_is_there_once(
    faults: list[str], count: int, batch: int, remembers: int
) -> None:
    model = Model(iter(faults), remembers=remembers)
    made = pusher()
    assert model.do(made.push_many(range(count), made.batches(None, batch, None, None))) == count
    assert sorted(map(int, model.entries)) == list(range(count))
    assert made.meter.metrics(time.monotonic()).pushed == count


@given(st.lists(st.sampled_from(FAULTS), max_size=6), st.integers(1, 20), st.integers(1, 7))
def test_without_them_nothing_is_there_twice_and_doubt_is_told(
    faults: list[str], count: int, batch: int
) -> None:
    model = Model(iter(faults), remembers=0)
    made = pusher()
    try:
        pushed, unsure = model.do(made.push_many(range(count), made.batches(None, batch, None, None))), 0
    except PushError as error:
        pushed, unsure = error.pushed, error.unsure
    assert len(set(model.entries)) == len(model.entries)
    assert pushed <= len(model.entries) <= pushed + unsure
    assert made.meter.metrics(time.monotonic()).pushed == pushed
    if unsure == 0:
        assert len(model.entries) == count


def test_who_gives_up_tells_the_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(iter(["fine", "fine", "lost after"] + ["unreachable"] * 100), remembers=100)
    monkeypatch.setattr(pushing, "time", type("Clock", (), {"monotonic": lambda: model.clock}))
    made = pusher(timeout_s=2.0)
    with pytest.raises(PushError) as caught:
        model.do(made.push_many([1, 2, 3], made.batches(None, 10, None, None)))
    assert (caught.value.pushed, caught.value.unsure) == (0, 3)
    assert 2.0 <= model.clock < 3.0
    assert len(model.entries) == 3


@pytest.mark.parametrize("patience_s", [0.0, 5.0])
def test_what_was_not_executed_is_sent_again_for_the_time_limit(
    monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    """At one address too, which may lead to the new primary soon."""
    model = Model(iter(["elsewhere"] * 6), remembers=0)
    monkeypatch.setattr(pushing, "time", type("Clock", (), {"monotonic": lambda: model.clock}))
    made = pusher(timeout_s=5.0, patience_s=patience_s)
    assert model.do(made.push_many([1], made.batches(None, 10, None, None))) == 1
    model = Model(iter(["elsewhere"] * 100), remembers=0)
    with pytest.raises(PushError) as caught:
        model.do(made.push_many([1], made.batches(None, 10, None, None)))
    assert (caught.value.pushed, caught.value.unsure) == (0, 0)
    assert 5.0 <= model.clock < 6.0


def test_a_server_that_wants_a_password_is_not_asked_again() -> None:
    made = pusher(patience_s=0.0)
    steps = made.push(1, None, None, None, None, False)
    steps.send(None)
    steps.send(Heard([ResponseError("no such key")]))
    with pytest.raises(PushError, match="NOAUTH"):
        steps.send(Heard([ResponseError("NOAUTH Authentication required.")]))


def test_a_failed_push_says_what_it_is() -> None:
    error = PushError(ResponseError("OOM"), 3, 2, "stream orders: no memory")
    text = "stream orders: no memory (3 messages were pushed, 2 more were sent but not confirmed)"
    assert str(error) == text
    assert repr(error) == f"PushError({text!r}, pushed=3, unsure=2)"
    assert repr(StreamFull("orders", "mailer", 5, 4, 1)).startswith("StreamFull('stream orders is full")


def test_an_answer_of_another_kind_is_final() -> None:
    made = pusher()
    steps = made.push(1, None, None, None, None, False)
    steps.send(None)
    steps.send(Heard([ResponseError("no such key")]))
    with pytest.raises(PushError, match="WRONGTYPE") as caught:
        steps.send(Heard([ResponseError("WRONGTYPE no stream")]))
    assert (caught.value.pushed, caught.value.unsure) == (0, 0)
    words = "stream orders: Redis: a key of that name is not a stream: choose another name or remove the key"
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("question", range(2), ids=["XINFO", "HELLO"])
@pytest.mark.parametrize("fault", ["unreachable", "lost before", "lost after", "elsewhere"])
def test_what_the_server_remembers_is_asked_until_it_is_answered(question: int, fault: str) -> None:
    """Else the push would not be protected."""
    model = Model(
        iter(["fine"] * question + [fault, "fine"] + ["fine"] * (1 - question) + ["lost after"]), remembers=9
    )
    made = pusher()
    assert model.do(made.push_many(range(3), made.batches(None, 3, None, None))) == 3
    assert sorted(model.entries) == [b"0", b"1", b"2"]
    assert made.meter.metrics(time.monotonic()).resent == 1  # the batch: questions are none


def test_after_a_push_that_failed_the_next_one_is_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model(iter(["fine", "fine"] + ["unreachable"] * 100), remembers=9)
    monkeypatch.setattr(pushing, "time", type("Clock", (), {"monotonic": lambda: model.clock}))
    made = pusher(patience_s=0.5)
    with pytest.raises(PushError) as caught:
        model.do(made.push_many([1], made.batches(None, 1, None, None)))
    assert (caught.value.pushed, caught.value.unsure) == (0, 0)
    model.faults = iter(["lost after", "fine", "fine", "lost after"])
    assert model.do(made.push_many([2], made.batches(None, 1, None, None))) == 1
    assert model.entries == [b"2"]


def test_a_question_that_is_never_answered_leaves_no_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent but it."""
    model = Model(iter(["lost after"] * 100), remembers=9)
    monkeypatch.setattr(pushing, "time", type("Clock", (), {"monotonic": lambda: model.clock}))
    made = pusher(timeout_s=2.0)
    with pytest.raises(PushError) as caught:
        model.do(made.push_many([1, 2, 3], made.batches(None, 10, None, None)))
    assert (caught.value.pushed, caught.value.unsure, model.entries) == (0, 0, [])


@pytest.mark.parametrize("version", [b"8.6.0", b"8.6.1"])
def test_a_server_whose_memory_has_faults_is_not_relied_on_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture, version: bytes
) -> None:
    model = Model(iter(()), remembers=9)
    model.version = version
    made = pusher()
    for faults in ([], ["lost after"], []):
        model.faults = iter(["fine"] * 2 + faults if made._remembers is None else faults)
        with contextlib.suppress(PushError):
            model.do(made.push_many([1], made.batches(None, 1, None, None)))
    assert not model.known
    (line,) = caplog.messages
    assert line.startswith("stream orders: no push is sent again")
    assert version.decode() in line


def test_a_server_that_forgets_no_producer_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    model = Model(iter(()), remembers=9)
    made = pusher()
    for model.producers in (10_000, 10_001, 10_002):
        made._remembers = None
        model.do(made.push_many([1], made.batches(None, 1, None, None)))
    assert len(model.known) == 3
    (line,) = caplog.messages
    assert "ids of 10001 producers and does not forget them: see docs/producer.md" in line
