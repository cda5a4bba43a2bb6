"""Handlers on trial: the verdicts of a pool, in this process."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rsq import BatchMessage, Message, Reject, Retry, Router, SoftTimeout
from rsq.testing import Trial
from rsq.worker.signature import HandlerError
from rsq.worker.verdict import NotDone


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


def test_an_async_handler_has_an_event_loop() -> None:
    async def handle(message: Message) -> int:
        return int(message.data) + 1

    with Trial(handle) as trial:
        assert [trial.run(n).returned for n in (1, 2)] == [2, 3]


def test_an_event_loop_is_closed_without_with_too() -> None:
    """Nobody's tests warn of a loop that was left open."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def handle(_message: Message) -> None:
        loops.append(asyncio.get_running_loop())

    Trial(handle).run(1)
    gc.collect()
    assert [loop.is_closed() for loop in loops] == [True]


def test_the_soft_limit_is_raised_inside() -> None:
    def handle(message: Message) -> None:
        while True:
            time.sleep(1)

    result = Trial(handle, soft_timeout=0.01).run(1)
    assert (result.verdict, type(result.error)) == ("retry", SoftTimeout)


def test_a_handler_that_exits_fails_and_an_interrupt_goes_on() -> None:
    def raising(error: BaseException) -> Trial:
        def handle(message: Message) -> None:
            raise error

        return Trial(handle)

    assert raising(SystemExit(3)).run(1).verdict == "retry"
    with pytest.raises(KeyboardInterrupt):
        raising(KeyboardInterrupt()).run(1)


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
