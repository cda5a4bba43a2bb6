"""Producer: writes messages to a stream.

An entry has the field `data`, the encoded message, and after it the field `event` if the message has one.

Commands go out as bytes made here: the part before the payload is the same for every message, and redis-py's
pipeline costs several times the rest. The connections are redis-py's.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import redis
from redis.exceptions import RedisError

from . import connection, serializers
from .letter import name_bytes

BATCH = 500
# A batch of large messages goes out earlier: it is held in memory twice.
BATCH_BYTES = 4 * 1024 * 1024
WINDOW_S = 60
_PAUSES_S = (0.05, 0.1, 0.2, 0.4)  # between two attempts to find the right server; the last one repeats


class PushError(RedisError):
    """Messages did not get through.

    Attributes:
        cause: what redis-py said.
        pushed: how many messages of the call are in the stream for certain.
        unsure: how many may be there or not: they were sent, the answer is missing. Pushing them again may
            double them, so we never do.
    """

    def __init__(self, cause: RedisError, pushed: int, unsure: int) -> None:
        """Put the numbers into words."""
        self.cause = cause
        self.pushed = pushed
        self.unsure = unsure
        doubt = f", {unsure} more were sent but not confirmed" if unsure else ""
        super().__init__(f"{cause} ({pushed} messages were pushed{doubt})")


@dataclass(frozen=True)
class ProducerMetrics:
    """What a producer has done since it was made (in this process).

    Attributes:
        pushed: messages confirmed by the server.
        rate_60s: messages per second over the last minute, or over the uptime if that is shorter.
        average_per_s: messages per second over the uptime.
        uptime_s: seconds.
    """

    pushed: int
    rate_60s: float
    average_per_s: float
    uptime_s: float


class Producer:
    """Pushes messages onto one stream. Threads may share it; a forked child gets connections of its own."""

    def __init__(
        self,
        url_or_client: str | redis.Redis = "redis://localhost:6379/0",
        stream: str = "events",
        *,
        serializer: str = "json",
        maxlen: int | None = None,
        allow_pickle: bool = False,
        timeout_s: float = 10.0,
    ) -> None:
        """Prepare it; the first push connects.

        Arguments:
            url_or_client: a URL as `connection.target` takes it, or a redis-py client, yours to close.
            stream: where to write.
            serializer: see `serializers.load`.
            maxlen: trim the stream to about so many entries with every push (`MAXLEN ~`). None: never.
                The server trims the oldest entries whether anybody has read them or not, so with a limit a
                backlog becomes silent loss. The workers trim what every group has finished with.
            allow_pickle: needed for the serializer pickle.
            timeout_s: seconds to wait for a connection and for answers; a client of yours has its own. Behind
                sentinels and in a cluster also how long a push waits for a failover or for a slot that moves.

        Raises:
            ValueError: bad URL, serializer or maxlen.
        """
        if maxlen is not None and maxlen < 1:
            raise ValueError(f"maxlen must be at least 1, not {maxlen}")
        self.stream = stream
        self._encode = serializers.load(serializer, allow_pickle=allow_pickle).encode
        self._owned = isinstance(url_or_client, str)
        self._patience_s = 0.0
        if isinstance(url_or_client, str):
            target = connection.target(url_or_client).for_key(stream)
            self._client = connection.client(target, timeout_s=timeout_s, name="rsq-producer")
            self._patience_s = timeout_s if target.way != "direct" else 0.0
        else:
            self._client = url_or_client
        trim = () if maxlen is None else (b"MAXLEN", b"~", b"%d" % maxlen)
        self._head = (b"XADD", name_bytes(stream), *trim, b"*", b"data")
        self._counter = _Counter()

    def push(self, data: Any, event: str | None = None) -> str:
        """Push one message.

        Arguments:
            data: what the serializer takes.
            event: name of the event, for routing.

        Returns:
            Id of the entry.

        Raises:
            PushError: it did not get through, or nobody knows.
            Exception: what the serializer raises for this data.
        """
        before, after = self._frame(event)
        payload = self._encode(data)
        (entry_id,) = self._exchange([b"%s%d\r\n%s%s" % (before, len(payload), payload, after)], 0)
        return entry_id.decode() if isinstance(entry_id, bytes) else str(entry_id)

    def push_many(self, items: Iterable[Any], event: str | None = None, batch: int = BATCH) -> int:
        """Push many messages, one round trip per batch; not a transaction.

        Arguments:
            items: the data of each; taken lazily, one batch at a time, so it may be endless.
            event: name of the event of all of them.
            batch: messages per round trip.

        Returns:
            How many were pushed.

        Raises:
            PushError: with how many got through before.
            Exception: what the serializer or `items` raise; all messages before that one are pushed.
        """
        before, after = self._frame(event)
        encode = self._encode
        commands: list[bytes] = []
        size = pushed = 0
        try:
            for item in items:
                payload = encode(item)
                commands.append(b"%s%d\r\n%s%s" % (before, len(payload), payload, after))
                size += len(payload)
                if len(commands) >= batch or size >= BATCH_BYTES:
                    full, commands, size = commands, [], 0
                    self._exchange(full, pushed)
                    pushed += len(full)
        finally:
            if commands:
                self._exchange(commands, pushed)
        return pushed + len(commands)

    @property
    def metrics(self) -> ProducerMetrics:
        """What it has done so far."""
        return self._counter.metrics(time.monotonic())

    def close(self) -> None:
        """Close the connections, unless they are those of a client given by the caller."""
        if self._owned:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _frame(self, event: str | None) -> tuple[bytes, bytes]:
        """What stands before the length of a payload and after the payload, in the Redis protocol."""
        tail = () if event is None else (b"event", name_bytes(event))
        count = len(self._head) + 1 + len(tail)
        return b"*%d\r\n%s$" % (count, _words(self._head)), b"\r\n" + _words(tail)

    def _exchange(self, commands: list[bytes], pushed: int) -> list[Any]:
        """Send commands, return their answers; `pushed` is what the call has pushed before.

        A command is sent again only while it is certain that no server has executed it: there was no
        connection, or the answer says that this was the wrong server.
        """
        found: list[Any] = []
        deadline = time.monotonic() + self._patience_s
        pauses = iter(_PAUSES_S)
        while True:
            try:
                answers = self._once(commands, pushed + len(found))
            except _Unsent as unsent:
                answers = [unsent.cause] * len(commands)
                final = connection.permanent(unsent.cause)
            else:
                final = any(_is_error(answer) and not connection.elsewhere(answer) for answer in answers)
            errors = [answer for answer in answers if _is_error(answer)]
            found += [answer for answer in answers if not _is_error(answer)]
            if not errors:
                return found
            if final or time.monotonic() >= deadline:
                raise PushError(errors[0], pushed + len(found), 0) from errors[0]
            commands = [one for one, answer in zip(commands, answers, strict=True) if _is_error(answer)]
            time.sleep(next(pauses, _PAUSES_S[-1]))

    def _once(self, commands: list[bytes], pushed: int) -> list[Any]:
        """Send commands once, return as many answers, errors as values.

        Raises:
            _Unsent: there is no connection.
            PushError: the connection was lost, and with it answers.
        """
        pool: Any = self._client.connection_pool  # redis-py has typed little of it
        try:
            link = pool.get_connection()
        except RedisError as error:
            raise _Unsent(error) from error
        answers: list[Any] = []
        try:
            link.send_packed_command([b"".join(commands)])
            while len(answers) < len(commands):
                try:
                    answers.append(link.read_response())
                except redis.exceptions.ResponseError as error:
                    answers.append(error)
        except RedisError as error:
            done = sum(not _is_error(answer) for answer in answers)
            self._counter.add(done, time.monotonic())
            raise PushError(error, pushed + done, len(commands) - len(answers)) from error
        except BaseException:
            link.disconnect()  # answers are still under way: nobody else may read them as theirs
            raise
        else:
            if any(_is_error(answer) and connection.elsewhere(answer) for answer in answers):
                link.disconnect()  # the next connection leads to the right server
        finally:
            pool.release(link)
        self._counter.add(sum(not _is_error(answer) for answer in answers), time.monotonic())
        return answers


class _Unsent(Exception):
    """Nothing was sent."""

    def __init__(self, cause: RedisError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Counter:
    """Pushed messages, in total and per second of the last minute."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._pushed = 0
        self._seconds: deque[tuple[int, int]] = deque()  # second, pushed in it

    def add(self, count: int, now: float) -> None:
        # A child counts what it pushes itself, and must not wait for a lock that a thread of its parent held.
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            self._pushed += count
            second = int(now)
            if self._seconds and self._seconds[-1][0] == second:
                count += self._seconds.pop()[1]
            self._seconds.append((second, count))
            self._forget(second)

    def metrics(self, now: float) -> ProducerMetrics:
        with self._lock:
            self._forget(int(now))
            recent = sum(count for _, count in self._seconds)
            uptime = now - self._started
            return ProducerMetrics(
                pushed=self._pushed,
                rate_60s=recent / min(uptime, WINDOW_S) if uptime > 0 else 0.0,
                average_per_s=self._pushed / uptime if uptime > 0 else 0.0,
                uptime_s=uptime,
            )

    def _forget(self, second: int) -> None:
        while self._seconds and self._seconds[0][0] <= second - WINDOW_S:
            self._seconds.popleft()


def _is_error(answer: Any) -> bool:
    return isinstance(answer, RedisError)


def _words(words: tuple[bytes, ...]) -> bytes:
    return b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
