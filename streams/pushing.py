"""Pushing, without I/O: what to send, and what follows from the answers.

Messages go out in one of three ways:

    pipeline   one XADD each. If the connection breaks, nobody knows which of them were executed.
    IDMP       the same with ids of ours, where the server remembers those (`idempotence`): may be sent again.
    script     one script for all, where it depends on what is in the stream (`unique`, `on_full`). The script
               remembers what it did, so it may be sent again on every server.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

from redis.exceptions import RedisError, ResponseError

from . import frames, idempotence, keys, lanes, serializers
from .bounds import COUNT_MAX, SECONDS_MAX, TIMEOUT_LEAST_S, number, whole
from .durations import Duration, seconds
from .frames import Frame
from .lanes import Lane
from .letter import name_bytes, text_of
from .meter import OF_PROCESS, Meter
from .refusals import Duplicate, PushError, StreamFull
from .steps import Pause, Steps, Talk
from .trouble import Place, code, elsewhere, explain, permanent

log = logging.getLogger(__name__)

BATCH = 500
# A batch of large messages goes out earlier: it is held in memory twice.
BATCH_BYTES = 4 * 1024 * 1024
OnFull = Literal["trim", "reject", "block"]
_PAUSES_S = (0.05, 0.1, 0.2, 0.4)  # between two attempts; the last one repeats


class _Broken(Exception):
    """An exchange did not come to its end.

    Arguments:
        cause: see `PushError`.
        done: how many commands were executed.
        unsure: how many of the others may have been.
    """

    def __init__(self, cause: RedisError, done: int, unsure: int) -> None:
        super().__init__(str(cause))
        self.cause, self.done, self.unsure = cause, done, unsure


class Batches:
    """Messages on their way to be sent together."""

    def __init__(
        self,
        frame: Frame,
        encode: Callable[[Any], bytes],
        key: Callable[[Any], str] | None,
        most: int,
        send: Callable[[Frame, list[bytes], int], Steps[list[Any]]],
    ) -> None:
        self.pushed = 0
        self._frame, self._form, self._encode, self._key = frame, frame.piece, encode, key
        self._most, self._send = most, send
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, item: Any) -> bool:
        """Take an item; return whether it is time to send."""
        data = self._encode(item)
        pieces = self._pieces
        pieces.append(self._form(data) if self._key is None else self._form(data, self._key(item)))
        self._size += len(data)
        return len(pieces) >= self._most or self._size >= BATCH_BYTES

    def send(self) -> Steps[None]:
        """Send what is there, if anything is."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        if pieces:
            yield from self._send(self._frame, pieces, self.pushed)
            self.pushed += len(pieces)


class Pusher:
    """Pushes messages onto one stream, step by step. Threads may share it, and so may tasks."""

    def __init__(
        self,
        stream: str,
        *,
        serializer: str,
        allow_pickle: bool,
        maxlen: int | None,
        exact: bool,
        on_full: OnFull,
        block_s: float,
        timeout_s: float,
        patience_s: float,
        server: Place | None = None,
    ) -> None:
        """Check the settings; see `Producer`.

        Arguments:
            timeout_s: how long to send again what a server has said that it did not execute.
            patience_s: how long to try to reach a server, while nothing was sent.
            server: what errors name; None if it is not known.

        Raises:
            ValueError: one line about what is wrong.
        """
        if maxlen is not None:
            maxlen = _at_least_1("maxlen", maxlen)
        if on_full not in ("trim", "reject", "block"):
            raise ValueError(f"on_full is trim, reject or block, not {on_full!r}")
        if maxlen is None and on_full != "trim":
            raise ValueError(f"on_full={on_full!r} needs maxlen: how many entries may be unread")
        if exact and (maxlen is None or on_full != "trim"):
            raise ValueError("exact is a way to trim: it needs maxlen, and on_full='trim'")
        keys.refuse_ours(stream)
        self.stream, self.meter, self._server = stream, Meter(), server
        self._encode = serializers.load(serializer, allow_pickle=allow_pickle).encode
        self._most, self._blocks, self._block_s = maxlen or 0, on_full == "block", block_s
        self._timeout_s = number(timeout_s, TIMEOUT_LEAST_S, SECONDS_MAX)
        self._patience_s = patience_s
        self._rule = (
            b"free" if maxlen is None else b"unread" if on_full != "trim" else b"=" if exact else b"~"
        )
        trims = maxlen is not None and on_full == "trim"
        self._trim = (b"MAXLEN", self._rule, b"%d" % self._most) if trims else ()
        self._name, self._lanes = name_bytes(stream), lanes.OF_PROCESS
        self._remembers: int | None = None  # ids of ours, with IDMP; 0: none, None: to be found out
        self._told: set[str] = set()

    def push(
        self,
        data: Any,
        event: str | None,
        key: str | None,
        traceparent: str | None,
        unique: Duration | None,
        refuse: bool,
    ) -> Steps[str]:
        """Push one message; see `Producer.push`."""
        frame = Frame(event, traceparent, keyed=key is not None)
        if unique is None:
            (entry_id,) = yield from self._add(frame, [frame.piece(self._encode(data), key)], 0)
            return text_of(entry_id)
        if key is None:
            raise ValueError("unique needs a key: what no two messages may share")
        lasts_ms = max(1, round(seconds(unique) * 1000))
        piece = frame.piece(self._encode(data), key)
        known, (entry_id,) = yield from self._add_by_script(frame, [piece], 0, lasts_ms, key)
        if known and refuse:
            raise Duplicate(self.stream, key, text_of(entry_id))
        return text_of(entry_id)

    def batches(
        self, event: str | None, size: int, key: Callable[[Any], str] | None, traceparent: str | None
    ) -> Batches:
        """Return what takes many messages; see `Producer.push_many`.

        Raises:
            ValueError: a batch has no size.
        """
        size = _at_least_1("batch", size)
        frame = Frame(event, traceparent, keyed=key is not None)
        return Batches(frame, self._encode, key, size, self._add)

    def push_many(self, items: Iterable[Any], batches: Batches) -> Steps[int]:
        """Push many messages; see `Producer.push_many`."""
        add = batches.add
        try:
            for item in items:
                if add(item):
                    yield from batches.send()
        finally:
            yield from batches.send()
        return batches.pushed

    def ensure_group(self, group: str, start_id: str) -> Steps[bool]:
        """Make a consumer group; see `Producer.ensure_group`."""
        command = frames.command(
            b"XGROUP", b"CREATE", self._name, name_bytes(group), start_id.encode(), b"MKSTREAM"
        )
        try:
            yield from self._exchange([command], again=True, counted=False)
        except _Broken as broken:
            if "BUSYGROUP" in str(broken.cause):
                return False
            raise broken.cause from None
        return True

    def _add(self, frame: Frame, pieces: list[bytes], pushed: int) -> Steps[list[Any]]:
        """Add messages, return their ids; `pushed` is what the call has pushed before."""
        if self._rule == b"unread":
            return (yield from self._add_by_script(frame, pieces, pushed))[1]
        try:
            most = yield from self._how_many_it_remembers()
            if not most:
                before = frames.adds(self._name, self._trim, frame)
                return (yield from self._exchange(pieces, before))
            lane = self._lanes.take(named=True)
            try:
                once = frames.adds_once(self._name, self._trim, frame, pieces, lane, most)
                return (yield from self._exchange(once, lane=lane))
            finally:
                self._lanes.give(lane)
        except _Broken as broken:
            self._remembers = None  # the next server may be another
            raise self._failure(broken.cause, pushed + broken.done, broken.unsure) from broken.cause

    def _how_many_it_remembers(self) -> Steps[int]:
        """Return how many ids of ours the server remembers; as long as there is no stream that is open."""
        if self._remembers is None:
            stream = yield from self._ask(b"XINFO", b"STREAM", self._name)
            found = idempotence.memory(stream, self._timeout_s)
            if found is None:
                return 0
            fault = idempotence.fault((yield from self._ask(b"HELLO"))) if found.ids else ""
            if fault:
                words = (
                    "no push is sent again after its connection broke: the server could tell it from another"
                )
                self._tell_once("version", f"{words}, but {fault}, and this is only reliable from 8.6.2 on")
            elif found.is_too_large:
                words = f"the server remembers ids of {found.producers} producers and does not forget them"
                self._tell_once("producers", f"{words}: see docs/producer.md")
            self._remembers = 0 if fault else found.ids
        return self._remembers

    def _ask(self, *words: bytes) -> Steps[Any]:
        """Return the answer to a question, an error of the server too. It is asked until it is answered."""
        try:
            (answer,) = yield from self._exchange([frames.command(*words)], again=True, counted=False)
        except _Broken as broken:
            if not isinstance(broken.cause, ResponseError) or elsewhere(broken.cause):
                raise _Broken(broken.cause, 0, 0) from None
            return broken.cause
        return answer

    def _tell_once(self, what: str, words: str) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning("stream %s: %s", self.stream, words)

    def _add_by_script(
        self, frame: Frame, pieces: list[bytes], pushed: int, lasts_ms: int = 0, key: str = ""
    ) -> Steps[tuple[bool, list[Any]]]:
        """Add messages as far as there is room, and wait for more if that is wanted.

        Arguments:
            frame, pieces, pushed: as above.
            lasts_ms: for how long the message, then it is one, is the only one of its key; 0: it need not be.
            key: see there.

        Returns:
            Whether the key was there before, and the ids.
        """
        ids: list[Any] = []
        room, until = len(pieces), None
        pauses = iter(_PAUSES_S)
        while True:  # with no room it only asks: what has to wait may be large
            known, unread, group, new = yield from self._script(frame, pieces[:room], pushed, lasts_ms, key)
            ids += new
            pieces, pushed = pieces[len(new) :], pushed + len(new)
            if known or not pieces:
                return known, ids
            room = max(0, self._most - unread - len(new))
            if room:
                continue
            now = time.monotonic()
            if until is None or new:
                until, pauses = now + self._block_s, iter(_PAUSES_S)
            if not self._blocks or now >= until:
                self._count(0, rejected=len(pieces))
                raise StreamFull(self.stream, group, unread + len(new), self._most, pushed)
            yield Pause(min(next(pauses, _PAUSES_S[-1]), until - now))

    def _script(
        self, frame: Frame, pieces: list[bytes], pushed: int, lasts_ms: int, key: str
    ) -> Steps[tuple[bool, int, str, list[Any]]]:
        """Return whether the key was known, how much was unread and by whom, and the ids."""
        lane = self._lanes.take()
        names = [self.stream, keys.sent(self.stream, lane.name)]
        if lasts_ms:
            names.append(keys.unique(self.stream, key))
        call = frames.script(names, lane, self._rule, self._most, lasts_ms, frame, pieces)
        try:
            (answer,) = yield from self._exchange([call], lane=lane, counted=False)
        except _Broken as broken:
            raise self._failure(broken.cause, pushed, len(pieces) if broken.unsure else 0) from broken.cause
        finally:
            self._lanes.give(lane)
        if text_of(answer[0]) == "known":
            self._count(0, duplicates=1)
            return True, 0, "", answer[1:]
        self._count(len(answer) - 3)
        return False, answer[1], text_of(answer[2]), answer[3:]

    def _exchange(
        self,
        pieces: list[bytes],
        before: bytes = b"",
        *,
        lane: Lane | None = None,
        again: bool = False,
        counted: bool = True,
    ) -> Steps[list[Any]]:
        """Send commands, return their answers.

        A command is sent again while it is certain that no server has executed it (there was no connection,
        or the answer says that this was the wrong server), and if it may be, when the connection broke.

        Arguments:
            pieces: the commands, without what stands before each.
            before: that.
            lane: by which the server knows those again that it has executed.
            again: it does not matter if it executes them again.
            counted: each is a message.

        Raises:
            _Broken: not all were executed, or nobody knows.
        """
        found: list[Any] = []
        again = again or lane is not None
        broken = False  # then what is left may have been executed
        began = time.monotonic()
        deadline = began + self._patience_s
        pauses = iter(_PAUSES_S)
        while True:
            if lane is not None:
                lane.broken = True  # should this end here
            heard = yield Talk(before.join((b"", *pieces)), len(pieces))
            assert heard is not None
            answers, lost = heard.answers, heard.lost
            errors = [answer for answer in answers if isinstance(answer, RedisError)]
            good = [answer for answer in answers if not isinstance(answer, RedisError)] if errors else answers
            found += good
            if counted and good:
                self._count(len(good))
            if lost is not None and heard.sent and not again:
                raise _Broken(lost, len(found), len(pieces) - len(answers))
            if lost is not None and heard.sent and not broken:
                broken, deadline = True, time.monotonic() + self._timeout_s
            if lane is not None:
                lane.broken = broken
            if lost is None and not errors:
                if lane is not None and broken:
                    self._count(0, resent=1)
                return found
            refused = [
                one for one, said in zip(pieces, answers, strict=False) if isinstance(said, RedisError)
            ]
            pieces = refused + pieces[len(answers) :]
            final = permanent(lost) if lost is not None else not all(map(elsewhere, errors))
            if lost is None and not any(map(_stays, errors)):  # the same address may lead elsewhere soon
                deadline = max(deadline, began + self._timeout_s)
            if final or time.monotonic() >= deadline:
                raise _Broken(lost or errors[0], len(found), len(pieces) if broken else 0)
            yield Pause(next(pauses, _PAUSES_S[-1]))

    def _failure(self, cause: RedisError, pushed: int, unsure: int) -> PushError:
        return PushError(cause, pushed, unsure, f"stream {self.stream}: {explain(cause, self._server)}")

    def _count(self, pushed: int, *, duplicates: int = 0, rejected: int = 0, resent: int = 0) -> None:
        now = time.monotonic()
        for meter in (self.meter, OF_PROCESS):
            meter.add(pushed, now, duplicates=duplicates, rejected=rejected, resent=resent)


def _stays(error: RedisError) -> bool:
    """Tell whether the same address would say the same again: another has to be found."""
    return permanent(error) or code(error) in ("MOVED", "ASK")


def _at_least_1(what: str, value: object) -> int:
    try:
        return whole(value, 1, COUNT_MAX)
    except ValueError as error:
        raise ValueError(f"{what} must be at least 1: {error}") from None
