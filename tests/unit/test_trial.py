"""Handlers on trial: the verdicts of a pool, in this process."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any

import pytest

from rsq import BatchMessage, Message, Reject, Retry, Router, SoftTimeout, adapters
from rsq.testing import Trial
from rsq.worker.signature import HandlerError
from rsq.worker.verdict import NeverRan, NotDone


def echo(message: Message) -> Any:
    return message


def test_a_handler_that_returns_is_done() -> None:
    result = Trial(echo, stream="orders").run({"a": 1}, "paid")
    assert (result.verdict, result.done, result.attempt, result.error) == ("done", True, 1, None)
    seen = result.returned
    assert (seen.data, seen.event, seen.stream, seen.attempt) == ({"a": 1}, "paid", "orders", 1)
    assert seen.timestamp == 1_700_000_000
    assert seen.fields == {b"data": b'{"a":1}', b"event": b"paid"}


def test_data_goes_through_the_serializer() -> None:
    trial = Trial(echo, serializer="msgpack")
    assert trial.run((1, b"x")).message.data == [1, b"x"]
    with pytest.raises(TypeError):
        Trial(echo).run(object())
    with pytest.raises(ValueError, match="allow-pickle"):
        Trial(echo, serializer="pickle")


def test_failures_are_retried_and_end_in_the_dead_letters() -> None:
    def handle(message: Message) -> None:
        raise KeyError(message.attempt)

    results = Trial(handle, max_attempts=4, backoff_base=10, backoff_max=25).run_all(1)
    assert [(one.verdict, one.attempt, one.delay_s) for one in results] == [
        ("retry", 1, 10),
        ("retry", 2, 20),
        ("retry", 3, 25),
        ("dead", 4, 0),
    ]
    assert results[-1].reason == "max_attempts"
    assert isinstance(results[-1].error, KeyError)
    assert len({one.message.id for one in results}) == 1


def test_a_handler_may_ask_for_what_it_wants() -> None:
    def handle(message: Message) -> None:
        raise Reject("never") if message.data else Retry(delay=30)

    trial = Trial(handle)
    assert (trial.run(1).verdict, trial.run(1).reason) == ("dead", "rejected")
    assert (trial.run(0).verdict, trial.run(0).delay_s) == ("retry", 30)
    assert trial.run(0, attempt=3).reason == "max_attempts"


def test_what_cannot_be_decoded_never_gets_to_the_handler() -> None:
    seen: list[Message] = []
    result = Trial(seen.append).run(fields={"data": "{"})
    assert (result.verdict, result.reason, result.message.data) == ("dead", "decode_error", None)
    assert not seen
    assert Trial(echo).run(fields={"order": "1", b"event": b"paid"}).message.data == {
        "order": "1",
        "event": "paid",
    }


def test_messages_of_others_are_read_and_their_attempts_count() -> None:
    def handle(message: Message) -> None:
        raise KeyError(message.data, message.event, message.attempt)

    told = b'{"id":"m-1","event":"paid","data":[7],"retries":2,"timestamps":{}}'
    results = Trial(handle, max_attempts=4).run_all(fields={"message": told})
    assert [(one.verdict, one.attempt) for one in results] == [("retry", 3), ("dead", 4)]
    assert str(results[0].error) == "([7], 'paid', 3)"
    wrong = Trial(echo, envelope="rsq").run(fields={"message": told})
    assert (wrong.verdict, wrong.reason) == ("dead", "decode_error")
    with pytest.raises(ValueError, match="no envelope 'other'; there are auto, rsq"):
        Trial(echo, envelope="other")


def test_a_router_has_its_limits_and_says_what_it_ignores() -> None:
    app = Router()

    @app.on("order.created", max_attempts=2, backoff=(8, 9))
    def created(message: Message) -> None:
        raise KeyError(message.data)

    @app.on("order.paid")
    async def paid(message: Message) -> Any:
        return message.data

    trial = Trial(app)
    failed = trial.run_all(1, "order.created")
    assert [(one.verdict, one.delay_s) for one in failed] == [("retry", 8), ("dead", 0)]
    assert (trial.run(2, "order.paid").verdict, trial.run(2, "order.paid").returned) == ("done", 2)
    ignored = trial.run(3, "strange")
    assert (ignored.verdict, ignored.done, ignored.error) == ("ignored", False, None)
    assert Trial(app, unknown_event="dead-letter").run(3).reason == "unknown_event"
    assert [one.verdict for one in Trial(app, unknown_event="retry", max_attempts=2).run_all()] == [
        "retry",
        "dead",
    ]
    with pytest.raises(ValueError, match="unknown_event is one of ignore"):
        Trial(app, unknown_event="other")
    with pytest.raises(HandlerError, match="has no handlers"):
        Trial(Router())


def test_a_batch_handler_gets_a_list_of_one() -> None:
    app = Router()

    @app.batch("rows", size=10, wait=5)
    def rows(messages: list[BatchMessage]) -> Any:
        (message,) = messages
        match message.data:
            case "ids":
                return [message.id]
            case "mark":
                message.done()
                raise KeyError
            case "fail":
                raise KeyError
            case other:
                return other

    trial = Trial(app, max_attempts=2)
    for good in ("ids", "mark"):
        assert trial.run(good, "rows").done
    for bad, kind in (("fail", KeyError), (None, NotDone), ([], NotDone), (["1-1"], NotDone), (7, TypeError)):
        failed = trial.run(bad, "rows")
        assert failed.verdict == "retry"
        assert isinstance(failed.error, kind)


def test_a_batch_handler_gets_as_many_as_it_wants_and_each_has_its_verdict() -> None:
    app, calls = Router(), []

    @app.batch("rows", size=3, wait=5, max_attempts=2)
    async def rows(messages: list[BatchMessage]) -> Any:
        calls.append([message.data for message in messages])
        for message in messages:
            if message.data == "marked":
                message.done()
        if any(message.data == "bad" for message in messages):
            raise KeyError("bad")
        return [message.id for message in messages if message.data == "said"]

    @app.on("one")
    def one(message: Message) -> None:
        calls.append(message.data)

    trial = Trial(app)
    results = trial.run_many(["said", "marked", "silent", "said", "bad", "marked"], "rows")
    assert calls == [["said", "marked", "silent"], ["said", "bad", "marked"]]
    assert [result.verdict for result in results] == ["done", "done", "retry", "retry", "retry", "done"]
    assert [type(result.error) for result in results[2:5]] == [NotDone, KeyError, KeyError]
    assert results[0].returned == [results[0].message.id]

    calls.clear()  # nobody is dead-lettered for another's failure
    results = trial.run_many(["said", "bad", "marked"], "rows", attempt=2)
    assert calls == [["said", "bad", "marked"], ["said"], ["bad"]]
    assert [(result.verdict, result.reason) for result in results] == [
        ("done", ""),
        ("dead", "max_attempts"),
        ("done", ""),
    ]
    silent = trial.run_many(["said", "silent"], "rows", attempt=2)  # but for its own
    assert [result.verdict for result in silent] == ["done", "dead"]

    calls.clear()
    written = [
        {"event": "rows", "data": "{"},
        {"event": "rows", "data": '"said"'},
        {"event": "one", "data": "1"},
    ]
    results = trial.run_many(fields=written)
    assert calls == [1, ["said"]]
    assert [(result.verdict, result.reason) for result in results] == [
        ("dead", "decode_error"),
        ("done", ""),
        ("done", ""),
    ]
    assert [result.verdict for result in trial.run_many([1, 2], "strange")] == ["ignored", "ignored"]
    assert trial.run_many([], "rows") == []


def test_a_batch_handler_that_returns_none_has_done_what_it_marked() -> None:
    def rows(messages: list[BatchMessage]) -> None:
        messages[0].done()

    trial = Trial(adapters.message_list(size=2)(rows), max_attempts=2)
    assert [one.verdict for one in trial.run_many([1, 2])] == ["done", "retry"]
    results = trial.run_many([1, 2], attempt=2)  # the second is alone then, and marked
    assert [one.verdict for one in results] == ["done", "done"]
    kept = results[0].message
    assert isinstance(kept, BatchMessage)
    with pytest.raises(RuntimeError, match="too late"):
        kept.done()


def test_an_async_handler_has_an_event_loop() -> None:
    loops = []

    async def handle(message: Message) -> int:
        loops.append(asyncio.get_running_loop())
        return int(message.data) + 1

    with Trial(handle) as trial:
        assert [trial.run(n).returned for n in (1, 2)] == [2, 3]
    assert loops[0] is loops[1]
    assert Trial(handle).run(3).returned == 4
    assert all(loop.is_closed() for loop in loops)


def test_the_soft_limit_is_raised_inside() -> None:
    def handle(message: Message) -> None:
        while True:
            time.sleep(1)

    result = Trial(handle, soft_timeout=0.01).run(1)
    assert (result.verdict, type(result.error)) == ("retry", SoftTimeout)

    def many(messages: list[BatchMessage]) -> Iterator[BatchMessage]:
        messages[0].done()
        yield messages[0]
        signal.setitimer(signal.ITIMER_REAL, 0.01)  # the first is done before the limit is reached
        handle(messages[1])

    results = Trial(adapters.message_list(many), soft_timeout=60).run_many([1, 2])
    assert [(one.verdict, type(one.error)) for one in results] == [("done", NoneType), ("retry", SoftTimeout)]


def test_a_handler_that_exits_fails_and_an_interrupt_goes_on() -> None:
    def raising(error: BaseException) -> Trial:
        def handle(message: Message) -> None:
            raise error

        return Trial(handle)

    assert raising(SystemExit(3)).run(1).verdict == "retry"
    with pytest.raises(KeyboardInterrupt):
        raising(KeyboardInterrupt()).run(1)


def test_a_handler_that_returns_its_work_has_not_done_it() -> None:
    async def later(_message: Message) -> None:
        raise AssertionError("never called")

    def hidden(work: Any) -> Any:
        return lambda message: work(message)  # noqa: PLW0108 - nobody can tell what it returns

    result = Trial(hidden(later)).run(1)
    assert (result.verdict, type(result.error)) == ("retry", NeverRan)

    def lazy(_message: Message) -> Iterator[int]:
        yield 1

    with pytest.raises(HandlerError, match="has a yield"):
        Trial(lazy)
    assert Trial(hidden(lazy)).run(1).verdict == "retry"


def test_a_handler_by_its_name_comes_with_its_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.joinpath("shop_tasks.py").write_text(
        "calls = []\n"
        "def worker_start(): calls.append('start')\n"
        "def worker_stop(): calls.append('stop')\n"
        "def handle(message): calls.append(message.data)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with Trial("shop_tasks:handle") as trial:
        trial.run(1)
    assert trial.handler.name == "shop_tasks:handle"
    import shop_tasks  # type: ignore[import-not-found]

    assert shop_tasks.calls == ["start", 1, "stop"]
    with Trial(shop_tasks.handle):  # the function itself, with the hooks of its module
        pass
    assert shop_tasks.calls[3:] == ["start", "stop"]


@pytest.mark.parametrize("wrong", ["tasks", "no_such_module:handle", lambda: None, ...])
def test_what_no_pool_would_take_is_refused(wrong: Any) -> None:
    with pytest.raises(HandlerError):
        Trial(wrong)


def test_it_works_in_any_thread() -> None:
    results: list[Any] = []
    trial = Trial(echo, soft_timeout=5)
    thread = threading.Thread(target=lambda: results.append(trial.run(1)))
    thread.start()
    thread.join()
    assert results[0].done
