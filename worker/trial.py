"""A trial: messages through a handler in this process, with the verdicts of a pool. No Redis, no fork."""

from __future__ import annotations

import builtins
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Literal, Self

from ..ipc.journal import Outcome
from ..streams import serializers
from ..streams.connection import Target
from ..streams.entry import Message, Raw
from ..streams.envelope import ENVELOPES
from ..streams.frames import Frame
from .batcher import said_done
from .calls import BatchMessage, Call
from .handler import Handler, examine, load
from .router import Router
from .spec import Reading, Retries, Source, Spec, Work
from .verdict import LAZY, Ignored, NotDone, SoftTimeout, as_decode_error, judge, never_ran
from .ways import UNKNOWN, Way, Ways

FIRST_MS = 1_700_000_000_000  # when the first message of a trial was added, Unix ms


@dataclass(frozen=True, slots=True)
class Result:
    """What a pool would do with a message after one attempt.

    Arguments:
        verdict: `done`: acknowledge it; `retry`: try it again; `dead`: move it to the dead letters;
            `ignored`: acknowledge it, for the router has no handler for its event.
        attempt: which one this was, from 1, with those that its envelope tells of.
        reason: of a dead letter, as `rsq dlq list` shows it; empty for the others.
        delay_s: of a retry: exactly so long if the handler asked for it by `Retry(delay=)`, else the
            longest: a pool waits for a random part of it.
        error: what the handler raised, or what the payload could not be decoded for.
        message: as the handler saw it; its `data` is None when it could not be decoded.
        returned: what the handler returned.
    """

    verdict: Literal["done", "retry", "dead", "ignored"]
    attempt: int
    reason: str
    delay_s: float
    error: BaseException | None
    message: Message
    returned: Any = None

    @property
    def done(self) -> bool:
        """Whether it is done."""
        return self.verdict == "done"


class Trial:
    """A handler on trial, with the settings that a pool would have.

    As a context manager it runs the hooks of the handler's module, as a worker does at its begin and end, and
    async handlers have one event loop for that time; else each call has its own.
    """

    def __init__(
        self,
        handler: str | Router | Callable[[Message], Any],
        *,
        stream: str = "events",
        envelope: str = "auto",
        serializer: str = "json",
        allow_pickle: bool = False,
        unknown_event: str = "ignore",
        max_attempts: int = 3,
        backoff_base: float = 1.0,
        backoff_max: float = 300.0,
        soft_timeout: float = 0.0,
    ) -> None:
        """Check the handler as a pool does at its start.

        Arguments:
            handler: what `rsq-supervisor` is given, or the function or router itself.
            stream: what `message.stream` says.
            envelope, serializer, allow_pickle, unknown_event, max_attempts, backoff_base, backoff_max,
                soft_timeout: as the options of `rsq-supervisor`, with the same defaults; times in seconds.
                The soft time-out of a handler that is not async works in the main thread only, as in a
                worker.

        Raises:
            ValueError: there is no such handler, or it takes no message; a bad serializer, envelope
                or unknown_event.
        """
        if isinstance(handler, str):
            self.handler: Handler = load(handler)
        else:
            owner = handler.routes[0].function if isinstance(handler, Router) and handler.routes else handler
            module = getattr(owner, "__module__", None) or "builtins"
            name = getattr(handler, "__qualname__", type(handler).__qualname__)
            self.handler = examine(handler, f"{module}:{name}", sys.modules.get(module, builtins))
        self._serializer = serializers.load(serializer, allow_pickle=allow_pickle)
        if envelope not in ENVELOPES:
            raise ValueError(f"there is no envelope {envelope!r}; there are {', '.join(ENVELOPES)}")
        if unknown_event not in UNKNOWN:
            raise ValueError(f"unknown_event is one of {', '.join(UNKNOWN)}, not {unknown_event!r}")
        self._envelope = ENVELOPES[envelope]
        self._new = Message.for_stream(stream, self._envelope)
        self._new_of_batch = BatchMessage.for_stream(stream, self._envelope)
        self._ways = Ways(
            self.handler,
            Spec(
                Source(Target("", ""), stream, "trial", "trial", "0", ""),
                Work(self.handler.name, serializer, allow_pickle, True, envelope, 0.0, unknown_event),
                Retries(max_attempts, backoff_base, backoff_max),
                Reading(1, 0.0, 0.0, until_empty=True),
                timeout_s=0.0,
                soft_timeout_s=soft_timeout,
            ),
        )
        self._count = 0
        self._entered = False

    def __enter__(self) -> Self:
        self._entered = True
        self.handler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered = False
        self.handler.stop()

    def run(
        self,
        data: Any = None,
        event: str | None = None,
        *,
        key: str | None = None,
        traceparent: str | None = None,
        fields: Mapping[Any, str | bytes] | None = None,
        attempt: int = 1,
    ) -> Result:
        """Make one attempt with one message.

        Arguments:
            data, event, key, traceparent: as given to `Producer.push`; the data is encoded and decoded again.
            fields: instead of these, the fields of an entry as somebody else wrote it.
            attempt: which attempt it is, those that the envelope tells of come on top: the last one that is
                allowed ends in the dead letters.

        Raises:
            KeyboardInterrupt: and what else is no failure of a handler; SystemExit is one.
        """
        if fields is None:
            frame = Frame(event, traceparent, keyed=key is not None)
            return self._attempt(self._entry(frame.fields(self._serializer.encode(data), key)), attempt)
        return self._attempt(self._entry(_flat(fields)), attempt)

    def run_many(
        self,
        data: Iterable[Any] = (),
        event: str | None = None,
        *,
        fields: Iterable[Mapping[Any, str | bytes]] | None = None,
        attempt: int = 1,
    ) -> list[Result]:
        """Make one attempt with each of many messages: together, where their handler takes batches.

        A call gets as many as its handler wants; the others follow in further calls. Where a call of
        several fails, a message without an attempt left runs once more, alone, as in a pool: that decides.

        Arguments:
            data, event: as given to `Producer.push_many`.
            fields: instead of these, the fields of entries as somebody else wrote them.
            attempt: which attempt it is for all of them.

        Returns:
            A result for each message, in their order.

        Raises:
            KeyboardInterrupt: and what else is no failure of a handler.
        """
        if fields is None:
            frame = Frame(event, None, keyed=False)
            flats = [frame.fields(self._serializer.encode(one), None) for one in data]
        else:
            flats = [_flat(one) for one in fields]
        results: dict[int, Result] = {}
        waiting: dict[int, list[int]] = {}  # key of a batch handler -> places
        entries = [self._entry(flat) for flat in flats]
        for at, entry in enumerate(entries):
            if (key := self._ways.of(entry).key) is None:
                results[at] = self._attempt(entry, attempt)
            else:
                waiting.setdefault(key, []).append(at)
        for key, places in waiting.items():
            size = self._ways.gathers[key].size
            for start in range(0, len(places), size):
                some = places[start : start + size]
                answers = self._together(self._ways.batch(key), [entries[at] for at in some], attempt)
                results.update(zip(some, answers, strict=True))
        return [results[at] for at in range(len(entries))]

    def run_all(self, data: Any = None, event: str | None = None, **more: Any) -> list[Result]:
        """Make attempts with one message until it is done or dead, waiting for nothing; see `run`."""
        results = [self.run(data, event, **more)]
        while results[-1].verdict == "retry":
            own = more.get("attempt", 1) + len(results)
            results.append(self._attempt(results[-1].message.entry, own))
        return results

    def _entry(self, flat: Sequence[bytes]) -> Raw:
        entry: Raw = [f"{FIRST_MS + self._count}-0".encode(), flat]
        self._count += 1
        return entry

    def _attempt(self, entry: Raw, own: int) -> Result:
        way = self._ways.of(entry)
        if way.key is not None:
            return self._together(way, [entry], own)[0]
        message = self._new()
        returned: Any = None
        error: BaseException | None = self._decode(message, entry, own)
        if error is None:
            try:
                with self._loop(), self._limited(way.alarm_s):
                    returned = way.call(message)
                    if type(returned) in LAZY:
                        raise never_ran(returned)
            except (Exception, SystemExit) as raised:
                error = raised
        return _result(way, message, error, returned)

    def _together(self, way: Way, entries: Sequence[Raw], own: int) -> list[Result]:
        """Make one call of a batch handler, and others for those of its entries that have to run alone."""
        outcomes = memoryview(bytearray([Outcome.OPEN]) * len(entries))
        call = Call(outcomes)
        messages: list[Any] = []
        errors: dict[int, BaseException] = {}
        for at, entry in enumerate(entries):
            message: Any = self._new_of_batch()
            message.at, message.call = at, call
            messages.append(message)
            if (error := self._decode(message, entry, own)) is not None:
                errors[at] = error
        called = [message for message in messages if message.at not in errors]
        said: set[str] = set()
        returned: Any = None
        whole: BaseException | None = None
        try:
            if called:
                with self._loop(), self._limited(way.alarm_s):
                    returned = way.call(called)
                    if returned is None:
                        whole = NotDone("the batch handler returned None")
                    else:  # here, too, its code runs, if it has a yield
                        said, _ = said_done(returned, {message.id for message in called})
        except (Exception, SystemExit) as raised:
            whole, returned = raised, None
        finally:
            call.close()
        results: list[Result] = []
        for at, message in enumerate(messages):
            done = message.id in said or outcomes[at] == Outcome.DONE
            not_said = NotDone("not among the entries that the batch handler says are done")
            failed = errors.get(at) or (None if done else whole or not_said)
            result = _result(way, message, failed, returned)
            if failed is whole and result.verdict == "dead" and len(entries) > 1:  # for whose failure?
                result = self._together(way, [message.entry], own)[0]
            results.append(result)
        return results

    def _decode(self, message: Message, entry: Raw, own: int) -> Exception | None:
        """Fill in a message as a worker does; return why it cannot be."""
        message.entry, message.data = entry, None
        message.attempt = own + self._envelope.retries(entry[1])
        try:
            message.data = self._envelope.unwrap(entry[1]).decoded(self._serializer.decode)
        except Exception as error:
            return as_decode_error(error)
        return None

    @contextlib.contextmanager
    def _loop(self) -> Iterator[None]:
        """Let an async handler's event loop live as long as the trial, if somebody says when that ends."""
        try:
            yield
        finally:
            if not self._entered:
                self.handler.close_loop()

    @contextlib.contextmanager
    def _limited(self, alarm_s: float) -> Iterator[None]:
        if not alarm_s or threading.current_thread() is not threading.main_thread():
            yield
            return

        def ring(_number: int, _frame: FrameType | None) -> None:
            raise SoftTimeout(f"ran longer than {alarm_s:g} s")

        before = signal.signal(signal.SIGALRM, ring)
        began = time.monotonic()
        left_s, every_s = signal.setitimer(signal.ITIMER_REAL, alarm_s)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            if left_s:  # somebody else's, such as a test runner's
                signal.setitimer(signal.ITIMER_REAL, max(0.001, left_s - (time.monotonic() - began)), every_s)


def _result(way: Way, message: Message, error: BaseException | None, returned: Any) -> Result:
    """Return what a pool would do after an attempt that ended in this way."""
    attempt = message.attempt
    if error is None:
        return Result("done", attempt, "", 0.0, None, message, returned)
    if isinstance(error, Ignored):
        return Result("ignored", attempt, "", 0.0, None, message)
    verdict = judge(error, attempt, way.retries, lambda: 1.0)
    if verdict.outcome is Outcome.WAITING:
        return Result("retry", attempt, "", verdict.delay_s, error, message)
    return Result("dead", attempt, verdict.reason, 0.0, error, message)


def _flat(fields: Mapping[Any, str | bytes]) -> list[bytes]:
    return [_bytes(word) for pair in fields.items() for word in pair]


def _bytes(word: str | bytes) -> bytes:
    return word.encode("utf-8", "surrogateescape") if isinstance(word, str) else word
