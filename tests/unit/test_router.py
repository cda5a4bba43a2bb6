"""The router: whose entries a function handles and by which limits, or one clear line why it cannot."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsq.ipc.cells import CELL, D, Desk
from rsq.ipc.limit import pack, unpack
from rsq.streams.connection import Target
from rsq.streams.entry import Message
from rsq.worker.breaker import Limits
from rsq.worker.fuse import Breaker, fuses
from rsq.worker.handler import Handler
from rsq.worker.router import Router, check_routes
from rsq.worker.signature import HandlerError
from rsq.worker.spec import Reading, Retries, Source, Spec, Work
from rsq.worker.verdict import Ignored, SoftTimeout, UnknownEvent
from rsq.worker.ways import Ways

POOL = Retries(3, 1.0, 300.0)
SPEC = Spec(
    Source(Target("redis://", "redis://"), "events", "workers", "test", "0", "events:dlq"),
    Work("app:app", "json", False, True),
    POOL,
    Reading(500, 0.05, 5.0, False),
    300.0,
    0.0,
)


def message(event: str | None = None, attempt: int = 1) -> Message:
    fields = [b"data", b"1"] if event is None else [b"data", b"1", b"event", event.encode()]
    return Message([b"1-0", fields], 1, attempt)


def ways(app: Router, spec: Spec = SPEC, desk: memoryview | None = None) -> Ways:
    check_routes(app.routes, "app:app")
    return Ways(Handler("app:app", tuple(app.routes)), spec, desk)


def error(app: Router, spec: Spec = SPEC) -> str:
    with pytest.raises(HandlerError) as caught:
        ways(app, spec)
    words = str(caught.value)
    assert "\n" not in words
    return words


def two() -> Router:
    app = Router()

    @app.on("order.created", "order.paid", max_attempts=5, backoff=(0.5, 8))
    def order(_message: Message) -> str:
        return "order"

    @app.on("mail")
    def mail(_message: Message) -> str:
        return "mail"

    return app


def test_the_event_says_which_function() -> None:
    call = ways(two()).call
    assert [call(message(event)) for event in ("order.paid", "mail", "order.created")] == [
        "order",
        "mail",
        "order",
    ]


def test_the_default_gets_all_that_nobody_else_handles() -> None:
    app = two()

    @app.default
    def other(found: Message) -> tuple[str, str | None]:
        return "other", found.event

    call = ways(app).call
    assert call(message("none")) == ("other", "none")
    assert call(message()) == ("other", None)
    assert call(message("mail")) == "mail"


def test_a_default_alone_may_have_limits() -> None:
    app = Router()

    @app.default(max_attempts=9)
    def every(_message: Message) -> str:
        return "every"

    made = ways(app)
    assert made.call(message("x")) == "every"
    assert (made.most, made.of(message("x").entry).retries) == (9, replace(POOL, max_attempts=9))


def test_a_decorated_function_stays_what_it_was() -> None:
    app = Router()

    def handle(_message: Message) -> None: ...

    assert app.on("a")(handle) is handle
    assert app.default(handle) is handle


@pytest.mark.parametrize(
    ("what", "kind", "dead"),
    [("ignore", Ignored, None), ("dead-letter", UnknownEvent, True), ("retry", UnknownEvent, False)],
)
def test_what_nobody_handles(what: str, kind: type[Exception], dead: bool | None) -> None:
    made = ways(two(), replace(SPEC, work=replace(SPEC.work, unknown_event=what)))
    with pytest.raises(kind) as caught:
        made.call(message("strange"))
    assert getattr(caught.value, "dead", None) is dead
    assert what == "ignore" or str(caught.value) == "no handler for event 'strange'"
    with pytest.raises(kind):
        made.call(message())


def test_what_is_not_said_is_the_pools() -> None:
    made = ways(two())
    assert made.of(message("mail").entry).retries == POOL
    assert made.of(message("order.paid").entry).retries == Retries(5, 0.5, 8.0)
    assert made.of(message("strange").entry).retries == POOL
    assert made.most == 5


def test_what_is_remembered_of_an_event_goes_before_the_pool() -> None:
    app = Router()
    app.on("day", once="1d")(print)
    app.on("never", once=0)(print)
    app.on("pool")(print)
    for pool_s in (0.0, 60.0):
        made = ways(app, replace(SPEC, work=replace(SPEC.work, once_s=pool_s)))
        found = [made.of(message(event).entry).once_s for event in ("day", "never", "pool", "strange")]
        assert (found, made.remembers) == ([86400.0, 0.0, pool_s, 0.0], True)
    assert not ways(two()).remembers


def test_an_entry_is_only_looked_at_where_events_differ() -> None:
    found = message("order.paid").entry
    assert ways(two()).retries(b"1-0", lambda _: found).max_attempts == 5
    assert ways(two()).retries(b"1-0", lambda _: None) == POOL, "deleted"
    app = Router()
    app.on("a")(print)
    assert ways(app).retries(b"1-0", lambda _: pytest.fail("it was looked at")) == POOL


def test_soft_limits_are_kept_by_a_timer_where_no_event_loop_does() -> None:
    app = Router()
    app.on("quick", soft_timeout=2)(lambda _message: None)
    app.on("slow", soft_timeout=40)(lambda _message: None)
    app.on("endless")(lambda _message: None)

    @app.on("async", soft_timeout=1)
    async def later(_message: Message) -> None: ...

    made = ways(app)
    found = [made.of(message(event).entry).alarm_s for event in ("quick", "slow", "endless", "async")]
    assert (found, made.alarm_s) == ([2, 40, 0.0, 0.0], 2)


def test_the_soft_limit_of_an_async_function_is_its_own() -> None:
    import asyncio

    app = Router()

    @app.on("a", soft_timeout=0.01)
    async def slow(_message: Message) -> None:
        await asyncio.sleep(60)

    handler = Handler("app:app", tuple(app.routes))
    with pytest.raises(SoftTimeout, match=r"0.01 s"):
        Ways(handler, SPEC).call(message("a"))
    handler.stop()


def test_a_hard_limit_that_is_not_the_pools_is_told_before_the_call() -> None:
    desk = Desk(memoryview(bytearray(Desk.SIZE * CELL)))
    seen = []
    app = Router()
    app.on("own", timeout=7)(lambda found: seen.append(unpack(desk.view[D.LIMIT], found.entry[0])))
    app.on("none", timeout=0)(lambda found: seen.append(unpack(desk.view[D.LIMIT], found.entry[0])))
    app.on("same", timeout=300)(lambda _: seen.append(None))
    made = ways(app, desk=desk.view)
    made.call(message("same"))
    assert desk.view[D.LIMIT] == 0, "the pool's limit needs no word"
    made.call(message("own"))
    made.call(message("none"))
    assert seen == [None, 7.0, 0.0]
    assert unpack(desk.view[D.LIMIT], b"2-0") is None, "it is not meant for another entry"


@given(st.binary(min_size=1, max_size=41), st.one_of(st.just(0.0), st.floats(0.001, 4_000_000)))
def test_a_limit_is_read_as_it_was_written(entry: bytes, seconds: float) -> None:
    cell = pack(entry, seconds)
    assert 0 < cell < 1 << 64
    assert unpack(cell, entry) == pytest.approx(seconds, abs=0.001)
    assert unpack(0, entry) is None


# One line says what is wrong


def test_a_router_without_handlers() -> None:
    assert error(Router()) == "app:app has no handlers: decorate some with .on(EVENT) or .default"


def test_two_handlers_for_one_event() -> None:
    app = two()

    @app.on("refund", "mail")
    def again(_message: Message) -> None: ...

    words = error(app)
    assert words.startswith("app:app: event 'mail' has two handlers, ")
    assert "mail and" in words
    assert words.endswith("again")


def test_two_defaults() -> None:
    app = Router()
    app.default(print)
    app.default(repr)
    assert error(app) == "app:app: the default has two handlers, print and repr"


@pytest.mark.parametrize("events", [(), ("",), (3,), (print,)])
def test_a_handler_without_an_event(events: Any) -> None:
    with pytest.raises(HandlerError, match=r"\.on needs the name of an event"):
        Router().on(*events)


@pytest.mark.parametrize("function", [lambda: None, lambda data, message: None, 3])
def test_a_function_that_takes_something_else(function: Any) -> None:
    app = Router()
    app.on("a")(function)
    words = error(app)
    assert "handler of 'a'" in words
    assert "must take one argument, the message" in words or "is of type int" in words


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_attempts": 0}, "max_attempts is a number from 1"),
        ({"max_attempts": 2.5}, "max_attempts is a number from 1"),
        ({"max_attempts": True}, "max_attempts is a number from 1"),
        ({"timeout": -1}, "timeout is a number of seconds"),
        ({"timeout": "30"}, "timeout is a number of seconds"),
        ({"soft_timeout": float("nan")}, "soft_timeout is a number of seconds"),
        ({"soft_timeout": float("inf")}, "soft_timeout is a number of seconds"),
        ({"backoff": 3}, "backoff is (first, most)"),
        ({"backoff": (3, 1)}, "backoff is (first, most)"),
        ({"backoff": (3,)}, "backoff is (first, most)"),
        ({"once": "soon"}, "once: 'soon' is no duration"),
        ({"once": -1}, "once: a duration must be more than nothing"),
        ({"once": "9999d"}, "once: 9999d is longer than ten years"),
        ({"once": {1}}, "once: "),
        ({"soft_timeout": 5, "timeout": 5}, "its soft_timeout, 5 s, must be shorter than its timeout, 5 s"),
        ({"soft_timeout": 300}, "its soft_timeout, 300 s, must be shorter than its timeout, 300 s"),
    ],
)
def test_limits_that_make_no_sense(limits: dict[str, Any], words: str) -> None:
    app = Router()
    app.on("a", **limits)(print)
    assert f"app:app: print: {words}" in error(app)


def test_a_soft_limit_of_the_pool_and_a_hard_one_of_the_event() -> None:
    app = Router()
    app.on("a", timeout=5)(print)
    assert "its soft_timeout, 10 s, must be shorter" in error(app, replace(SPEC, soft_timeout_s=10.0))


@given(st.lists(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=3), max_size=6))
def test_any_router_is_refused_or_sends_each_event_to_its_own_function(names: list[list[str]]) -> None:
    app = Router()
    makes: Callable[[int], Callable[[Message], int]] = lambda number: lambda _message: number  # noqa: E731
    for number, events in enumerate(names):
        app.on(*events)(makes(number))
    every = [event for events in names for event in events]
    if not names or len(set(every)) < len(every):
        error(app)
        return
    call = ways(app).call
    for number, events in enumerate(names):
        assert [call(message(event)) for event in events] == [number] * len(events)


@pytest.mark.parametrize(
    ("breaker", "words"),
    [
        (Breaker(failures=0), "a breaker opens after 1 to 1000 failures, not 0"),
        (Breaker(failures=2.5), "failures is a number, not 2.5"),  # type: ignore[arg-type]
        (Breaker(window="soon"), "'soon' is no duration"),
        (Breaker(window=None), "window and reset are durations"),  # type: ignore[arg-type]
        (Breaker(reset=0), "a duration must be more than nothing"),
        (Breaker(reset="1000000w"), "at most 1000000000 s"),
        (Breaker(successes=0), "must be more than nothing"),
        (Breaker(while_open="wait"), "while_open is one of defer, pause, dead-letter, not 'wait'"),  # type: ignore[arg-type]
        (5, "breaker is a Breaker(...), not 5"),
    ],
)
def test_a_breaker_that_makes_no_sense(breaker: Any, words: str) -> None:
    app = Router()
    app.on("mail", breaker=breaker)(print)
    with pytest.raises(HandlerError, match=re.escape(words)):
        check_routes(app.routes, "app:app")


def test_breakers_that_have_no_room() -> None:
    app = Router()
    app.on(*(f"event-{n}" for n in range(33)), breaker=Breaker())(print)
    with pytest.raises(HandlerError, match="app:app: 33 events have a breaker, at most 32 can"):
        check_routes(app.routes, "app:app")
    app = Router()
    app.batch("ä" * 33, size=2, wait=0, breaker=Breaker())(print)
    with pytest.raises(HandlerError, match="an event with a breaker has a name of at most 64 bytes"):
        check_routes(app.routes, "app:app")


def test_each_event_has_a_breaker_of_its_own() -> None:
    app = Router()
    app.on("a", "b", breaker=Breaker(3, "1m", "500ms", 2, "pause"), timeout=5)(print)
    app.on("c")(print)
    app.on("d", breaker=Breaker(reset="2m"))(print)
    found = [(one.event, one.limits, one.while_open, one.limit_ms) for one in fuses(app.routes, 0.0)]
    wanted = Limits(3, 60_000, 500, 2)
    assert found == [
        (b"a", wanted, "pause", 15_000),
        (b"b", wanted, "pause", 15_000),
        (b"d", Limits(5, 60_000, 120_000, 1), "defer", 120_000),
    ]
